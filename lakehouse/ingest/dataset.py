"""A dataset: one kind of rows that a source delivers, with everything needed to load it.

`lakehouse.catalog` builds it once from the YAML and the settings and passes it down; code below depends on neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import IO, TYPE_CHECKING, Any, Protocol
from zoneinfo import ZoneInfo

from lakehouse.errors import SourceError
from lakehouse.ingest.http.client import ApiClient
from lakehouse.ingest.http.config import Endpoint
from lakehouse.ingest.http.requests import Requests
from lakehouse.ingest.names import Names, ObjectName
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.partitioning import Part, Partitioning, begun, start_of
from lakehouse.ingest.recent import DayFolders
from lakehouse.ingest.row_format import RowFormat
from lakehouse.ingest.thresholds import Refusals
from lakehouse.lake.contract import Contract
from lakehouse.lake.lake import Lake

if TYPE_CHECKING:
    import polars as pl

    from lakehouse.ingest.discover import ObjectVersion
    from lakehouse.ingest.formats import BlockReader
    from lakehouse.ingest.pseudonyms import Pseudonyms

_NEAR = timedelta(days=3)


class Beside(Names, Protocol):
    """The object names of a dataset, as seen by the other datasets of the same place."""

    def ignores(self, name: str) -> bool:
        """Whether a name belongs to a file that is known not to be an object."""


@dataclass(frozen=True)
class ObjectOrigin:
    """Objects in a folder or bucket.

    Args:
        place: opens the place; raises SourceError if the settings name none.
        beside: the names of all datasets that share the place, including this one.
        land: brings to the place what is new at a system that is read by a cursor (see `lakehouse.ingest.cursor`); a
            load calls it first.
        in_lake: opens the place for a lake, where what it offers depends on what the ledger says of its objects.
        withdraws_vanished: the rows of an object that is removed from the place are withdrawn (see
            `lakehouse.ingest.vanished`).
        days: the folders of days in which the objects lie, if their names say so (see `lakehouse.ingest.recent`).
    """

    place: Callable[[], ObjectSource]
    names: Names
    beside: tuple[Beside, ...]
    land: Callable[[], object] | None = None
    in_lake: Callable[[Lake], ObjectSource] | None = None
    withdraws_vanished: bool = False
    days: DayFolders | None = None

    def is_foreign(self, name: str, partitioning: Partitioning) -> bool:
        """Whether no dataset takes or ignores an object of that name."""
        if any(each.ignores(name) for each in self.beside):
            return False
        named = next(filter(None, (each.parse_name(name) for each in self.beside)), None)
        last = partitioning.last
        return named is None or not (last is None or named.first_day <= last)


@dataclass(frozen=True)
class ApiOrigin:
    """Answers of an API, which are stored as objects in the landing."""

    endpoint: Endpoint
    requests: Requests

    @property
    def names(self) -> Names:
        return self.requests


@dataclass(frozen=True)
class Dataset:
    """One kind of rows that a source delivers.

    Args:
        name: of the dataset within its source; the ledger calls it the product.
        description: what its rows are.
        table: path of the raw table, such as `xetra/raw_bars`.
        contract: the raw table's, as it binds this source.
        rows: the format of rows in an object.
        times: makes the columns that a row's time gives from the object's columns: those of the raw table by their
            names, and `day`, on which the row falls by the partitions' clock. Further `first_day` and `last_day`, where
            it may stand in an object of another day's name; and those of `faults`. Rows without a time are of their
            object's day.
        faults: column that `times` makes -> the reason against the rows in which it is true.
        clock: time zone of the dates and hours in objects' names; None: they name partitions.
        units: column of doubles -> how much one of the vendor's units is, where that is not 1.
        partition_column: column of the raw table that holds a row's partition; None if it has none.
        part: the raw table's storage partitions.
        reading: digest of everything that decides which rows an object gives (see `lakehouse.ingest.reading`).
        object_max_bytes: bytes that an object may unpack to.
        pseudonyms: what stands for the values of personal columns (`pii` in the contract); None: they stay clear.
        reader: makes the reader of an object's rows from its place, the object and its bytes; by default it gives all
            rows of the object (see `lakehouse.ingest.differences` for another).
    """

    source: str
    name: str
    description: str
    table: str
    contract: Contract
    rows: RowFormat
    origin: ObjectOrigin | ApiOrigin
    partitioning: Partitioning
    partition_column: str | None
    part: Part
    times: Callable[[pl.DataFrame], pl.DataFrame]
    reading: str
    refusals: Refusals
    faults: Mapping[str, str] = field(default_factory=dict)
    clock: str | None = None
    units: Mapping[str, Fraction] = field(default_factory=dict)
    object_max_bytes: int = 8 * 2**30
    pseudonyms: Pseudonyms | None = None
    reader: Callable[[Any, ObjectVersion, IO[bytes], Dataset], BlockReader] | None = None

    def parse_name(self, name: str) -> ObjectName | None:
        """Parses an object's name; None for a foreign object."""
        return self.origin.names.parse_name(name)

    @property
    def personal(self) -> list[str]:
        """The personal columns that the objects have."""
        return [column.name for column in self.contract.columns if column.pii and column.name in self.rows.columns]

    def partitions_of(self, named: ObjectName) -> list[date]:
        """The partitions that an object about one day or hour may hold rows of; first the one by which it is loaded.
        Empty if its day is outside the known partitions.
        """
        day, found = named.first_day, []
        # Moments about the first and the last dates that Python knows can't be moved to another clock.
        if self.clock is not None and date.min + _NEAR < day < date.max - _NEAR:
            start = datetime(day.year, day.month, day.day, named.hour or 0, tzinfo=ZoneInfo(self.clock))
            end = start + (timedelta(days=1) if named.hour is None else timedelta(hours=1))
            found = self.partitioning.around(day, start, end)
        return found or [each for each in [self.partitioning.on_or_after(day)] if each is not None]

    def together(self, partitions: Sequence[date]) -> list[date]:
        """`partitions` and those that an API answers together with them, up to the current one, ascending."""
        if not partitions or not (isinstance(self.origin, ApiOrigin) and self.origin.requests.by_month):
            return sorted(partitions)
        months = {start_of("month", partition) for partition in partitions}
        return [each for each in begun(self.partitioning, min(months)) if start_of("month", each) in months]

    def subject_of(self, name: ObjectName) -> str:
        """What a request of an API is about, such as a ticker."""
        assert isinstance(self.origin, ApiOrigin)
        return self.origin.requests.subject_of(name)

    @property
    def is_asked(self) -> bool:
        """Whether the rows come from an API, which returns only what is requested."""
        return isinstance(self.origin, ApiOrigin)

    def still_asks_for(self, name: str) -> bool:
        """Whether the source still requests an object of that name. Always true for delivered objects."""
        return not isinstance(self.origin, ApiOrigin) or self.origin.requests.still_asks_for(name)

    def require_settings(self, *, asks: bool = True) -> None:
        """Checks that the settings contain what a load needs; with `asks`, also an API's key and URL.

        Raises:
            SourceError: a setting is missing.
        """
        if isinstance(self.origin, ObjectOrigin):
            self.origin.place()
            return
        self.origin.requests.parameters()
        if asks:
            self.origin.requests.subjects()
            with ApiClient(self.origin.endpoint):
                pass

    @property
    def lacks(self) -> str | None:
        """Why the source can't be listed or requested with its settings; None if it can."""
        if isinstance(self.origin, ApiOrigin):
            return self.origin.endpoint.lacks_key
        try:
            self.origin.place()
        except SourceError as error:
            return str(error)
        return None
