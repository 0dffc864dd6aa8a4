"""An API's answers, kept as they came: objects below the lake's root, one for each answer that says something new.

From here on an API is loaded as a bucket is. An answer is written once, in one step, and never again: a load
that is killed continues with the landed answers, without repeating their requests.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import IO, TYPE_CHECKING

from lakehouse.errors import SourceUnavailable
from lakehouse.ingest.listing import Listing, listing_schema
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.object_store import objects_at, store_at

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_MOMENT = "%Y%m%dT%H%M%S.%fZ"
_PARSED = "%Y%m%dT%H%M%S%.fZ"
"""The same for Polars, which has formats of its own."""
_ANSWER = r"^(?<name>.+)/(?<version>\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{16})\.(csv|jsonl)\.gz$"


def published(version: str) -> datetime:
    """When an answer was given, by its version (UTC)."""
    return datetime.strptime(version.partition("-")[0], _MOMENT).replace(tzinfo=UTC)


class Landing:
    """The answers of one source. An object is a request (`bars/2020-11/adjusted=false/AAPL`); a version of it is an
    answer, named after its moment and the digest of its text: `20201201T031500.000000Z-0f3a...`.
    """

    def __init__(self, lake_uri: str, source: str) -> None:
        self.url = f"{lake_uri}/landing/{source}"

    def list(self, prefixes: Sequence[str]) -> Listing:
        """Every answer to the requests below `prefixes` (such as `bars/2020-11`); what else may lie there is none.

        Raises:
            SourceUnavailable: the storage doesn't answer.
        """
        import polars as pl

        listed = [self._kept.list(prefix) for prefix in dict.fromkeys(prefixes)]
        named = pl.col("path").str.extract_groups(_ANSWER)
        moment = pl.col("version").str.head(len("20201201T031500.000000Z"))
        answers = (
            pl.concat([pl.DataFrame(schema=listing_schema()), *(listing.objects for listing in listed)])
            .with_columns(name=named.struct["name"], version=named.struct["version"])
            .with_columns(published_at=moment.str.to_datetime(_PARSED, time_unit="us", strict=False, time_zone="UTC"))
            .filter(pl.col("published_at").is_not_null())
            .with_columns(tag=pl.lit(None, pl.String))
        )
        return Listing(answers, tuple(entry for listing in listed for entry in listing.passed_over))

    def put(
        self,
        name: str,
        body: bytes,
        published_at: datetime,
        newest: str | None,
        *,
        kind: str = "csv",
        unless_known: bool = True,
    ) -> str | None:
        """Lands an answer, unless it says what the newest one (by its version) says. Returns its version, or None
        where there was no news.

        The order of answers is that in which they were given, whatever the vendor's clock says.

        Args:
            kind: of the text, csv or jsonl.
            unless_known: False where the answer is news even so: that nothing has changed since.

        Raises:
            SourceUnavailable: the storage can't be written.
        """
        import obstore

        digest = hashlib.blake2b(body, digest_size=8).hexdigest()
        if newest is not None:
            known = newest.partition("-")[2]
            if known == digest and unless_known:
                return None
            published_at = max(published_at, published(newest) + timedelta(microseconds=1))
        version = f"{published_at.astimezone(UTC).strftime(_MOMENT)}-{digest}"
        try:
            obstore.put(self._store, f"{name}/{version}.{kind}.gz", gzip.compress(body, compresslevel=6, mtime=0))
        except (OSError, obstore.exceptions.BaseError) as error:
            raise SourceUnavailable(f"{self.url}: {name} can't be written: {error}") from error
        return version

    def fetch(self, path: str, tag: str | None) -> IO[bytes]:
        """The answer at `path`, packed as it is stored; `tag` is not needed, as answers are never replaced.

        Raises:
            ObjectReplaced: it was removed since it was listed.
            ObjectUnreadable: this answer can't be read.
            SourceUnavailable: none can.
        """
        return self._kept.fetch(path, tag)

    @cached_property
    def _kept(self) -> ObjectSource:
        return objects_at(self.url, may_lack=True)

    def holds(self, path: str, tag: str | None) -> bool:
        """Always: an answer that was landed is never replaced."""
        return True

    @cached_property
    def _store(self) -> ObjectStore:
        return store_at(self.url)
