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
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from lakehouse.errors import LakeUnavailable, StaleSnapshot, TableMissing, TableNewer, TableOutdated, in_one_line
from lakehouse.lake.contract import Contract
from lakehouse.lake.location import Location
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import parse_moment

if TYPE_CHECKING:
    import polars as pl

T = TypeVar("T")

Missing = Callable[[str], str | None]
"""Why no load can ever write the table at a path, where that is so."""

# Sixteen writers of one partition finish well within these tries; a table that is still contended then is a
# fault to be seen.
TRIES = 60


def retry_when_stale(work: Callable[[], T]) -> T:
    """Runs `work` (which takes its own snapshots) again for as long as it meets `StaleSnapshot`, with a growing
    random pause, and returns what it returned at last.

    `work` commits once at most, as its last deed, and changes nothing but the table: what it counts, it returns.
    """
    # Not stamina: it adds jitter of one width below `wait_max`, so that writers at the maximum retry in step.
    for attempt in range(TRIES):
        try:
            return work()
        except StaleSnapshot:
            if attempt == TRIES - 1:
                raise
            time.sleep(random.uniform(0, min(0.01 * 2**attempt, 1.0)))
    raise AssertionError("unreachable")


@dataclass(frozen=True)
class Pin:
    """Fixes a table for readers at a version, whatever is committed to it; None: as it was before it was written."""

    version: int | None


Pins = Callable[[str], Pin | None]
"""Says at which versions tables are read, by their paths."""


class LakeTable:
    """A table by its path in the lake, such as `xetra/daily_bars`. With a `pin` it can be read, and not written."""

    def __init__(
        self,
        name: str,
        uri: str,
        storage_options: dict[str, str],
        contract: Contract,
        missing: Missing,
        pin: Pin | None = None,
    ) -> None:
        self.name = name
        self.uri = uri
        self.pin = pin
        self.storage_options = storage_options
        self.location = Location(uri)
        self.contract = contract
        self._missing = missing

    def __repr__(self) -> str:
        return f"LakeTable({self.name!r}, {self.uri!r})"

    def pinned(self, pin: Pin | None) -> LakeTable:
        """This table at a pinned version."""
        return LakeTable(self.name, self.uri, self.storage_options, self.contract, self._missing, pin)

    def snapshot(self) -> Snapshot:
        """The table's current state, or its pinned one; a table never written is a snapshot without files.

        Raises:
            LakeUnavailable: the storage can't be read, or has the pinned version no longer.
            TableDamaged: a file of the table's log is empty, cut off or missing.
            TableOutdated: an earlier version of its contract wrote it, or it lacks a required column. One that may be
                NULL reads as NULL, and is added by the next write.
            TableNewer: a later version of its contract wrote it, so that it can't be read.
        """
        found = self.stored()
        self._require_readable(found)
        return found

    def stored(self) -> Snapshot:
        """The table's current state, or its pinned one, whichever version of its contract wrote it.

        Raises:
            LakeUnavailable, TableDamaged: as for `snapshot`.
        """
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        version = None if self.pin is None else self.pin.version
        if self.pin is not None and version is None:
            return Snapshot(self, None)
        try:
            if not self.location.exists():
                self.location.require_whole(version)
                return Snapshot(self, None)
            self.location.open()
            delta = DeltaTable(self.location.uri, version, storage_options=self.storage_options)
            self.location.open()
            self.location.require_whole(delta.version())
        except TableNotFoundError as error:
            self.location.require_whole(None)
            if version is not None:
                raise LakeUnavailable(f"{self.uri} can't be opened at version {version}: it is gone") from error
            return Snapshot(self, None)
        except (OSError, DeltaError) as error:
            if damage := self.location.damage():
                raise damage from error
            at = "" if version is None else f" at version {version}"
            raise LakeUnavailable(f"{self.uri} can't be opened{at}: {in_one_line(error)}") from error
        return Snapshot(self, delta)

    def _require_readable(self, snapshot: Snapshot) -> None:
        version, wanted = snapshot.contract_version, self.contract.version
        lacking = [name for name in snapshot.lacking if not self.contract.column(name).nullable]
        wrong = ([f"it lacks {', '.join(lacking)}"] if lacking else []) + snapshot.differing
        if version > wanted and wrong:
            raise TableNewer(
                f"{self.name} was written by version {version} of its contract, and this is version {wanted}: "
                f"{'; '.join(wrong)}",
                "Update Lakehouse to read it",
            )
        if version < wanted and self.contract.steps_from(version):
            raise TableOutdated(
                f"{self.name} was written by version {version} of its contract, and this is version {wanted}: run "
                "`lakehouse migrate` to see what changes, and `lakehouse migrate --apply` to change it"
            )
        if version < wanted or wrong:
            why = "; ".join(wrong) or f"version {version} of its contract, and this is version {wanted}"
            raise TableOutdated(
                f"{self.name} was written by an older version of Lakehouse: {why}",
                "Set LAKEHOUSE_HOME (or LAKEHOUSE_LAKE_URI) to a new place and load the sources into it again",
            )

    def at(self, moment: datetime | str | None = None, *, version: int | None = None) -> Snapshot:
        """The table as it was stored at an (aware) moment or at a version, as far back as vacuum has kept its files.

        Args:
            moment: also as text in ISO 8601, in UTC where it names no offset.

        Raises:
            TableMissing: the table did not exist then, or has no such version; the message names those that it has.
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
        # Of a moment before the first version delta-rs gives the first.
        written = [_moment_of(commit) for commit in found.delta.history(1)]
        if isinstance(wanted, datetime) and any(moment > wanted for moment in written):
            raise self._without(wanted)
        return Snapshot(self, found.delta)

    def _without(self, wanted: int | datetime) -> TableMissing:
        """The error of a table without a version, which names those that there are."""
        delta = self.snapshot().delta
        kept = sorted((commit["version"], _moment_of(commit)) for commit in delta.history()) if delta else []
        since = f", since {kept[0][1]:%Y-%m-%d %H:%M:%S} UTC" if kept else ""
        versions = f"{kept[0][0]} to {kept[-1][0]}{since}" if kept else "none that can be read"
        return TableMissing(f"{self.uri} cannot be read at {wanted}; its versions are {versions}")

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
