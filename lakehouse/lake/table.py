"""Tables of the lake, opened: `LakeTable.snapshot()` fixes a version, which is read, and committed on top of.

A table is a Delta table at `<lake>/<name>`. A commit (`Snapshot.append`, `Snapshot.overwrite`) raises `StaleSnapshot`
when another writer got in between, so that the work is done again on what that writer left (`retry_when_stale`).
Whoever derives one table from others takes the target's snapshot before it reads the inputs: a result made from older
inputs then meets the newer commit, and is made again. That order is what makes derivations safe without locks.

What a table holds is said by `contract`, housekeeping by `maintenance`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from lakehouse.lake.contract import Contract, contract_of
from lakehouse.lake.errors import LakeUnavailable, StaleSnapshot, TableMissing, TableOutdated, in_one_line
from lakehouse.lake.location import Location
from lakehouse.lake.snapshot import Snapshot

if TYPE_CHECKING:
    import polars as pl

T = TypeVar("T")

# Sixteen writers of one partition finish well within these tries; a table that is still contended then is a
# fault to be seen.
TRIES = 60


def retry_when_stale(work: Callable[[], T]) -> T:
    """Runs `work` (which takes its own snapshots) again for as long as it meets `StaleSnapshot`, with a growing
    random pause, and returns what it returned at last.

    `work` commits once at most, as its last deed, and changes nothing but the table: what it counts, it returns.
    """
    for attempt in range(TRIES):
        try:
            return work()
        except StaleSnapshot:
            if attempt == TRIES - 1:
                raise
            time.sleep(random.uniform(0, min(0.01 * 2**attempt, 1.0)))
    raise AssertionError("unreachable")


class LakeTable:
    """A table by its path in the lake, such as `xetra/daily_bars`."""

    def __init__(self, name: str, uri: str, storage_options: dict[str, str]) -> None:
        self.name = name
        self.uri = uri
        self.storage_options = storage_options
        self.location = Location(uri)
        self.contract: Contract = contract_of(name)

    def snapshot(self) -> Snapshot:
        """The table as it stands now; a table never written is a snapshot without files.

        Raises:
            LakeUnavailable: the storage can't be read.
            TableOutdated: it lacks a required column of its contract. One that may be NULL reads as NULL, and is
                added by the next write.
        """
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        try:
            if not self.location.exists():
                return Snapshot(self, None)
            self.location.open()
            delta = DeltaTable(self.location.uri, storage_options=self.storage_options)
            self.location.open()
        except TableNotFoundError:
            return Snapshot(self, None)
        except OSError as error:
            raise LakeUnavailable(f"{self.uri} can't be opened: {in_one_line(error)}") from error
        snapshot = Snapshot(self, delta)
        if lacking := [name for name in snapshot.lacking if not self.contract.column(name).nullable]:
            raise TableOutdated(
                f"{self.name} lacks {', '.join(lacking)}: an older version of Lakehouse wrote it. Set LAKEHOUSE_HOME "
                "(or LAKEHOUSE_LAKE_URI) to a new place and load the sources into it again"
            )
        return snapshot

    def at(self, moment: int | datetime) -> Snapshot:
        """The table as it was stored at a version or at an (aware) moment, as far back as vacuum has kept its files.

        Raises:
            TableMissing: the table did not exist then.
        """
        from deltalake.exceptions import DeltaError

        found = self.snapshot()
        if found.delta is None:
            raise TableMissing(f"{self.name} has never been written")
        try:
            found.delta.load_as_version(moment)
        except DeltaError as error:
            raise TableMissing(f"{self.name} cannot be read at {moment}: {error}") from error
        return Snapshot(self, found.delta)

    def scan(self) -> pl.LazyFrame:
        """A lazy Polars scan of the current rows; filters and columns are pushed down to the Parquet files."""
        return self.snapshot().scan()

    def to_polars(self) -> pl.DataFrame:
        """The current rows as a Polars frame, columns in the contract's order."""
        return self.scan().collect()
