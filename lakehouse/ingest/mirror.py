"""A system whose records are added, edited and deleted in place, mirrored as objects: one per day, in JSON Lines.

From there on the days are loaded as any files are: a day whose records changed is a new version of its object, which
replaces the older one as a whole, so edits move and deletes vanish; a day with the same records is the same version,
so a system that was emptied and filled again changes nothing.

The mirror's state is a manifest: the system's position up to which changes were taken, and the object of each day.
Days are written under names of their content first; the manifest, which makes them count, is written last, in one step,
under the next number. A run that is killed before leaves files that nothing names. Of two runs at once one writes the
number; the other drops what it made and goes on from there. So the position and the days never disagree, and changes
that are read twice are applied twice without a difference: a change says what a record is now.

A position is taken before the records are read, and changes since then are read after them. Where the system can't
give the changes since a position any more (`HistoryLost`), all records are read again, which also finds what was
deleted. If it has no records at all then, its refill is waited for.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, Protocol

from lakehouse.errors import LakehouseError, SourceUnavailable
from lakehouse.ingest.listing import Listing, listing_schema
from lakehouse.ingest.mirror_keys import Keys
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.object_store import objects_at, store_at

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_MANIFEST = re.compile(r"(?:manifests/)?(\d{10})\.json")
_TRIES = 3
_KEPT = 50
"""Manifests that are kept, for runs that are reading one."""
_UNPLACED = ""
"""Stands for the day of records that say none."""


class HistoryLost(LakehouseError):
    """The system can't give the changes since a position: all records must be read again."""


@dataclass(frozen=True)
class Record:
    """A record: its identifier as text, its day (ISO) or None, and its members as JSON, without the identifier."""

    key: str
    day: str | None
    text: str


@dataclass(frozen=True)
class Change:
    """What a record is now; None: it was deleted. `at` is when it changed, if the system says."""

    key: str
    record: Record | None
    at: datetime | None = None


class MirroredSystem(Protocol):
    """A system with records."""

    def position(self) -> str | None:
        """The present position; None if the system gives no changes.

        Raises:
            SourceUnavailable: it doesn't answer.
        """

    def records(self) -> Iterator[Record]:
        """All records. Raises as `position` does."""

    def changes(self, position: str) -> tuple[list[Change], str]:
        """The changes since a position, in their order, and the next position.

        Raises:
            HistoryLost: it doesn't know them any more.
            SourceUnavailable: it doesn't answer.
        """


@dataclass(frozen=True)
class _Object:
    path: str
    version: str
    size: int
    published_at: str


@dataclass(frozen=True)
class _Manifest:
    number: int = 0
    position: str | None = None
    objects: Mapping[str, _Object] = field(default_factory=dict)
    at: str | None = None
    lag_s: float | None = None
    keys: Mapping[str, str] | None = None


@dataclass(frozen=True)
class MirrorState:
    """What a mirror is like.

    Args:
        number: how many times it has changed, or its position; 0: nothing was read yet.
        has_changes: whether the system gives its changes; otherwise every listing reads all records.
        at: when it changed last.
        lag: how long the oldest change that was read last had waited.
        days: the names of the days' objects -> their paths.
    """

    number: int
    has_changes: bool
    at: datetime | None
    lag: timedelta | None
    days: Mapping[str, str]


@dataclass(frozen=True)
class Mirror(ObjectSource):
    """The objects of a mirrored system, as a place (see `ObjectSource`): listing it takes the system's changes first.

    Args:
        url: folder or bucket of the mirror.
        connect: opens the system.
        unplaced: the day whose object holds the records that say none, so that the quarantine shows them.
    """

    url: str
    connect: Callable[[], MirroredSystem]
    unplaced: str
    _seen: dict[int, _Manifest] = field(default_factory=dict, compare=False, repr=False)
    """The manifest that was read last, by its number: a manifest is never written again."""

    def list(self, prefix: str = "") -> Listing:
        """Lists the days, after the system's changes were taken.

        Raises:
            SourceUnavailable: the system or the mirror's storage doesn't answer.
        """
        import polars as pl

        self.refresh()
        objects = self._last().objects
        rows = [
            (f"{day}.jsonl.gz", each.version, each.size, datetime.fromisoformat(each.published_at), None, each.path)
            for day, each in sorted(objects.items())
        ]
        schema = {**listing_schema()}
        columns = ("name", "version", "size", "published_at", "tag", "path")
        frame = pl.DataFrame(rows, schema={name: schema[name] for name in columns}, orient="row")
        return Listing(frame.filter(pl.col("name").str.starts_with(prefix)))

    def fetch(self, path: str, tag: str | None) -> IO[bytes]:
        """The object at `path`, packed."""
        return self._kept.fetch(path, tag)

    def can_read(self, path: str) -> bool:
        """Always: the mirror wrote it."""
        return True

    def holds(self, path: str, tag: str | None) -> bool:
        """Whether the object is still that of its day."""
        return path in {each.path for each in self._last().objects.values()}

    def state(self) -> MirrorState:
        """What it is like now; the system isn't asked."""
        last = self._last()
        return MirrorState(
            number=last.number,
            has_changes=last.position is not None,
            at=None if last.at is None else datetime.fromisoformat(last.at),
            lag=None if last.lag_s is None else timedelta(seconds=last.lag_s),
            days={name: each.path for name, each in last.objects.items()},
        )

    def refresh(self) -> None:
        """Brings the mirror in line with the system."""
        system = self.connect()
        while True:
            before = self._last()
            after = self._refreshed(system, before)
            is_same = after.objects == before.objects and after.position == before.position
            if is_same or self._put(replace(after, number=before.number + 1)):
                return

    def _refreshed(self, system: MirroredSystem, before: _Manifest) -> _Manifest:
        if before.position is not None:
            try:
                changes, position = system.changes(before.position)
            except HistoryLost:
                return self._read_anew(system, before)
            moments = [each.at for each in changes if each.at is not None]
            lag_s = (datetime.now(UTC) - min(moments)).total_seconds() if moments else before.lag_s
            return replace(self._applied(before, changes, position), lag_s=lag_s)
        return self._read_anew(system, before)

    def _read_anew(self, system: MirroredSystem, before: _Manifest) -> _Manifest:
        """Reads all records; again, if the system was emptied meanwhile."""
        for _ in range(_TRIES):
            try:
                return self._read_all(system, before)
            except HistoryLost as error:
                lost = error
        raise SourceUnavailable(f"{lost}, each time while all was read ({_TRIES} times); load it again later")

    def _read_all(self, system: MirroredSystem, before: _Manifest) -> _Manifest:
        """All records, and the changes while they were read."""
        position = system.position()
        days: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for record in system.records():
            days[record.day or _UNPLACED][record.key] = record.text
        if not days and before.objects:
            return before
        gone = {*before.objects} - {self._name(day) for day in days}
        keys = self._keys({})
        for day, records in days.items():
            for key in records:
                keys.note(key, self._name(day))
        after = replace(self._written(before, days, gone, position), keys=keys.written())
        if position is None:
            return after
        return self._applied(after, *system.changes(position))

    def _applied(self, before: _Manifest, changes: Iterable[Change], position: str) -> _Manifest:
        """The manifest after some changes; with the same days where they change nothing. Only the days of the changed
        records are read.
        """
        changes = list(changes)
        if not changes:
            return replace(before, position=position)
        keys = self._keys(before.keys) if before.keys is not None else self._keys_of_days(before)
        days: dict[str, dict[str, str]] = {}

        def records(name: str) -> dict[str, str]:
            if name not in days:
                days[name] = self._records(before.objects[name]) if name in before.objects else {}
            return days[name]

        for change in changes:
            if (old := keys.day_of(change.key)) is not None:
                del records(old)[change.key]
            new = None
            if change.record is not None:
                new = self._name(change.record.day or _UNPLACED)
                records(new)[change.key] = change.record.text
            keys.note(change.key, new)
        filled = {name: records for name, records in days.items() if records}
        return replace(self._written(before, filled, {*days} - {*filled}, position), keys=keys.written())

    def _keys(self, paths: Mapping[str, str]) -> Keys:
        return Keys(paths, lambda path: self._kept.fetch(path, None), self._put_object)

    def _keys_of_days(self, manifest: _Manifest) -> Keys:
        """The index of a mirror that an earlier release wrote without one."""
        keys = self._keys({})
        for name, each in manifest.objects.items():
            for key in self._records(each):
                keys.note(key, name)
        return keys

    def _name(self, day: str) -> str:
        return day or self.unplaced

    def _written(
        self, before: _Manifest, days: Mapping[str, Mapping[str, str]], gone: set[str], position: str | None
    ) -> _Manifest:
        """Writes the days that differ; a day without records is an object without rows."""
        by_name: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for day, records in days.items():
            by_name[self._name(day)].update(records)
        by_name.update({name: {} for name in gone})
        objects, now = dict(before.objects), datetime.now(UTC).isoformat()
        for name, records in by_name.items():
            ordered = sorted(records.items(), key=lambda entry: (entry[1], entry[0]))
            text = "".join(f'{{"_id": {key}, {text[1:]}\n' for key, text in ordered).encode()
            path = f"days/{name}/{_digest(text)}.jsonl.gz"
            if name in objects and objects[name].path == path:
                continue
            # Other identifiers of the same records are no other version: the system was filled again.
            version = _digest("\n".join(text for _, text in ordered).encode())
            same = name in objects and objects[name].version == version
            published_at = objects[name].published_at if same else now
            self._put_object(path, gzip.compress(text, compresslevel=6, mtime=0))
            objects[name] = _Object(path, version, len(text), published_at)
        return replace(before, position=position, objects=objects, lag_s=None)

    def _records(self, held: _Object) -> dict[str, str]:
        """The records of a day by their identifiers."""
        found = {}
        with self._kept.fetch(held.path, None) as file, gzip.open(file) as lines:
            for line in lines:
                document = json.loads(line)
                key = json.dumps(document.pop("_id"), ensure_ascii=False)
                found[key] = json.dumps(document, ensure_ascii=False)
        return found

    def _last(self) -> _Manifest:
        # Earlier releases wrote manifests beside the folders of days, and without time, lag and keys.
        listed = self._kept.list("manifests").objects["name"].to_list() or self._kept.list().objects["name"].to_list()
        found = {int(match[1]): name for name in listed if (match := _MANIFEST.fullmatch(name))}
        if not found:
            return _Manifest()
        number = max(found)
        if number not in self._seen:
            with self._kept.fetch(found[number], None) as file:
                said: dict[str, Any] = json.load(file)
            objects = {day: _Object(**each) for day, each in said["objects"].items()}
            self._seen.clear()
            self._seen[number] = _Manifest(
                number, said["position"], objects, said.get("at"), said.get("lag_s"), said.get("keys")
            )
        return self._seen[number]

    def _put(self, manifest: _Manifest) -> bool:
        """Writes the next manifest; False where another run has written that of this number."""
        import obstore

        said = {
            "position": manifest.position,
            "objects": {day: vars(each) for day, each in manifest.objects.items()},
            "at": datetime.now(UTC).isoformat(),
            "lag_s": manifest.lag_s,
            "keys": manifest.keys,
        }
        try:
            name = _name_of(manifest.number)
            obstore.put(self._store, name, json.dumps(said, sort_keys=True).encode(), mode="create")
        except obstore.exceptions.AlreadyExistsError:
            return False
        except (OSError, obstore.exceptions.BaseError) as error:
            raise SourceUnavailable(f"{self.url}: the mirror can't be written: {error}") from error
        self._forget(manifest.number - _KEPT)
        return True

    def _forget(self, number: int) -> None:
        """Deletes an old manifest: each listing may write one, as the position moves on by itself."""
        import obstore

        if number > 0:
            with suppress(FileNotFoundError):
                obstore.delete(self._store, _name_of(number))

    def _put_object(self, path: str, content: bytes) -> None:
        import obstore

        try:
            obstore.put(self._store, path, content)
        except (OSError, obstore.exceptions.BaseError) as error:
            raise SourceUnavailable(f"{self.url}: {path} can't be written: {error}") from error

    @cached_property
    def _kept(self) -> ObjectSource:
        return objects_at(self.url, may_lack=True)

    @cached_property
    def _store(self) -> ObjectStore:
        return store_at(self.url)


def _name_of(number: int) -> str:
    return f"manifests/{number:010d}.json"


def _digest(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=16).hexdigest()
