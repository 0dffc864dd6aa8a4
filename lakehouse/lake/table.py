"""Tables of the lake: `LakeTable.snapshot()` fixes a version to read from and to commit on top of.

A table is a Delta table at `<lake>/<name>`. A commit (`Snapshot.append`, `Snapshot.overwrite`) raises `StaleSnapshot`
if another writer's conflicting commit came first; `retry_when_stale` then repeats the work on the newer state. To
derive a table from others, take the target's snapshot before reading the inputs: a result from outdated inputs then
conflicts with the newer commit, and is derived again. This order makes derivations safe without locks.

What a table holds is in its `contract`; housekeeping is in `maintenance`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from lakehouse.errors import StaleSnapshot, TableMissing
from lakehouse.lake.contract import Contract
from lakehouse.lake.opening import open_snapshot, open_stored
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import parse_moment
from lakehouse.lake.stored_table import Pin, StoredTable

if TYPE_CHECKING:
    import polars as pl

T = TypeVar("T")

Missing = Callable[[str], str | None]
"""Returns the reason if no load can ever write the table at a path."""

# Sixteen writers of one partition finish well within these tries. More contention than that is an error.
TRIES = 60


def retry_when_stale(work: Callable[[], T]) -> T:
    """Repeats `work`, after growing random pauses, until it doesn't raise `StaleSnapshot`; returns its result.

    `work` takes its own snapshots, commits at most once and at its end, and has no other effect: counts belong in its
    result.
    """
    # Not stamina: its jitter has a fixed width, so writers at the longest wait retry in step (docs/decisions/0011).
    for attempt in range(TRIES):
        try:
            return work()
        except StaleSnapshot:
            if attempt == TRIES - 1:
                raise
            time.sleep(random.uniform(0, min(0.01 * 2**attempt, 1.0)))
    raise AssertionError("unreachable")


class LakeTable(StoredTable):
    """A table that people and code take from a lake."""

    def __init__(
        self,
        name: str,
        uri: str,
        storage_options: dict[str, str],
        contract: Contract,
        missing: Missing,
        pin: Pin | None = None,
    ) -> None:
        super().__init__(name, uri, storage_options, contract, pin)
        self._missing = missing

    def pinned(self, pin: Pin | None) -> LakeTable:
        """This table at a pinned version."""
        return LakeTable(self.name, self.uri, self.storage_options, self.contract, self._missing, pin)

    def snapshot(self) -> Snapshot:
        """The table's current state, or its pinned one (see `open_snapshot`, also for its errors)."""
        return open_snapshot(self)

    def stored(self) -> Snapshot:
        """The same, whichever version of its contract wrote it (see `open_stored`)."""
        return open_stored(self)

    def at(self, moment: datetime | str | None = None, *, version: int | None = None) -> Snapshot:
        """The table as stored at an (aware) moment or at a version, as far back as vacuum has kept its files.

        Args:
            moment: also as text in ISO 8601, in UTC unless it has an offset.

        Raises:
            TableMissing: the table did not exist then, or has no such version; the message names the existing ones.
        """
        wanted = parse_moment(moment) if isinstance(moment, str) else version if moment is None else moment
        if wanted is None or (moment is not None and version is not None):
            raise TypeError("at() takes either a moment or version=")
        from deltalake.exceptions import DeltaError

        found = self.snapshot()
        if found.delta is None:
            raise TableMissing(f"{self.uri} has never been written")
        if isinstance(wanted, int) and not 0 <= wanted <= found.delta.version():
            raise self._without(wanted)
        try:
            found.delta.load_as_version(wanted)
        except DeltaError as error:
            raise self._without(wanted) from error
        self.location.require_whole(found.delta.version())
        # For a moment before the first version, delta-rs loads the first.
        written = [_moment_of(commit) for commit in found.delta.history(1)]
        if isinstance(wanted, datetime) and any(moment > wanted for moment in written):
            raise self._without(wanted)
        return Snapshot(self, found.delta)

    def _without(self, wanted: int | datetime) -> TableMissing:
        """The error for a version that doesn't exist; it names the existing ones."""
        delta = self.snapshot().delta
        kept = sorted((commit["version"], _moment_of(commit)) for commit in delta.history()) if delta else []
        since = f", since {kept[0][1]:%Y-%m-%d %H:%M:%S} UTC" if kept else ""
        versions = f"{kept[0][0]} to {kept[-1][0]}{since}" if kept else "none that can be read"
        return TableMissing(f"{self.uri} cannot be read at {wanted}; its versions are {versions}")

    def append_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Appends rows, column -> value, in one commit, whatever others append at the same time."""
        import pyarrow as pa

        made = pa.Table.from_pylist(list(rows), schema=self.contract.arrow_schema)
        # The first writer of a table may meet another one.
        retry_when_stale(lambda: self.snapshot().append(made, ()))

    def scan(self) -> pl.LazyFrame:
        """A lazy Polars scan of the current rows; filters and columns are pushed down to the Parquet files.

        Raises:
            TableMissing: the lake has nothing of the table's source.
        """
        snapshot = self.snapshot()
        if snapshot.delta is None and (why := self._missing(self.name)):
            raise TableMissing(why)
        return snapshot.scan()

    def to_polars(self) -> pl.DataFrame:
        """The current rows as a Polars frame, columns in the contract's order."""
        return self.scan().collect()


def _moment_of(commit: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(commit["timestamp"] / 1000, UTC)
