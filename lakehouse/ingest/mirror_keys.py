"""Which day each record of a mirror is in, by its key: an index in buckets, so that following a change costs as much as
the change, however large the mirror is.

A bucket holds the keys whose digests begin with its byte. It is an object of the mirror's store under a name of its
content, as the days are (see `mirror`), and the manifest names the buckets that count.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO

Days = dict[str, str]
"""Key -> day."""


@dataclass
class Keys:
    """The index, of which only those buckets are read that are asked about.

    Args:
        paths: bucket -> path of its object.
        fetch: opens an object.
        put: writes an object.
    """

    paths: Mapping[str, str]
    fetch: Callable[[str], IO[bytes]]
    put: Callable[[str, bytes], None]
    _read: dict[str, Days] = field(default_factory=dict)
    _changed: set[str] = field(default_factory=set)

    def day_of(self, key: str) -> str | None:
        """The day of a key; None if there is no such record."""
        return self._bucket(_bucket_of(key)).get(key)

    def note(self, key: str, day: str | None) -> None:
        """Notes the day of a key; None: there is no such record any more."""
        bucket = _bucket_of(key)
        held = self._bucket(bucket)
        if held.get(key) == day:
            return
        if day is None:
            del held[key]
        else:
            held[key] = day
        self._changed.add(bucket)

    def written(self) -> dict[str, str]:
        """Writes the buckets that changed; returns the paths of all."""
        paths = dict(self.paths)
        for bucket in sorted(self._changed):
            paths.pop(bucket, None)
            if held := self._read[bucket]:
                text = json.dumps(held, sort_keys=True).encode()
                paths[bucket] = f"keys/{bucket}/{hashlib.blake2b(text, digest_size=16).hexdigest()}.json.gz"
                self.put(paths[bucket], gzip.compress(text, compresslevel=6, mtime=0))
        return paths

    def _bucket(self, bucket: str) -> Days:
        if bucket not in self._read:
            self._read[bucket] = {}
            if bucket in self.paths:
                with self.fetch(self.paths[bucket]) as file, gzip.open(file) as text:
                    self._read[bucket] = json.load(text)
        return self._read[bucket]


def _bucket_of(key: str) -> str:
    return hashlib.blake2b(key.encode(), digest_size=1).hexdigest()
