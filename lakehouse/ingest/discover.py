"""Discovers the object versions that a source offers and the lake has not loaded yet, by partition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from lakehouse.ingest.dataset import ApiOrigin, Dataset
from lakehouse.ingest.landing import Landing
from lakehouse.ingest.ledger import ledger_of, pending, stored_version
from lakehouse.ingest.listing import Listing
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.partitioning import today
from lakehouse.ingest.recent import list_days, list_recent
from lakehouse.ingest.skipped import Skipped, skipped
from lakehouse.ingest.vanished import WithVanished
from lakehouse.ingest.withheld import Asking, readable_again
from lakehouse.lake.lake import Lake

if TYPE_CHECKING:
    import polars as pl


_EARLIER = timedelta(days=62)
"""In so many days before a partition another one is looked for."""
_CLOCKS = timedelta(days=2)
"""An object's name may go by another clock than the partitions."""


@dataclass(frozen=True)
class ObjectVersion:
    """An object version to be loaded; it is fetched by `path` and `tag`."""

    name: str
    version: str
    """The version that the source lists, with the reading (see `lakehouse.ingest.ledger`)."""
    size: int
    published_at: datetime
    path: str
    tag: str | None
    first_day: date
    """The first day that the object covers."""
    last_day: date
    first_partition: date
    """The partition by which it is loaded: that of `first_day`, or the next one."""
    last_partition: date
    """The last one that it may hold rows of, never beyond the last day of an object about several days."""
    values: dict[str, str] = field(default_factory=dict)
    """The other groups of its name, besides the day."""
    partitions: tuple[date, ...] = ()
    """All that an object about one day may hold rows of."""
    slot: int = 0
    """For a withheld version, the slot in which it was probed (see `withheld`)."""

    @property
    def is_one_day(self) -> bool:
        """Whether it is about one day, so that its rows usually belong to one storage partition."""
        return self.first_day == self.last_day


def store_of(lake: Lake, dataset: Dataset) -> ObjectSource | Landing:
    """Where the objects of a dataset are: its bucket, or the landed answers of its API.

    Raises:
        SourceError: the settings name no place.
    """
    if isinstance(dataset.origin, ApiOrigin):
        return Landing(lake.uri, dataset.source)
    origin = dataset.origin
    place = origin.place() if origin.in_lake is None else origin.in_lake(lake)
    return WithVanished(place, lake, dataset.source, dataset.name) if origin.withdraws_vanished else place


@dataclass(frozen=True)
class Discovery:
    """The result of a discovery: `pending` objects, oldest partition first, with an object's versions in order of
    publication; and the skipped objects of a folder or bucket, of all of it or of what was listed.
    """

    pending: list[ObjectVersion]
    skipped: tuple[Skipped, ...] = ()
    is_of_all: bool = True


def discover(
    lake: Lake,
    dataset: Dataset,
    *,
    retry_failed: bool | Asking,
    partitions: Sequence[date] | None = None,
    reread: bool = False,
    recent: bool = False,
) -> Discovery:
    """Finds the object versions at the source that the lake hasn't loaded yet. Ignores objects before the first
    partition.

    Args:
        retry_failed: include versions that failed (a manual retry); or, as `Asking`, the due withheld versions of a
            folder or bucket that can now be read.
        partitions: leave out objects that cover none of these; of a large place only the folders of their days are
            listed.
        reread: include the current versions that were read with other settings.
        recent: list only where news can be (see `lakehouse.ingest.recent`); the skipped objects are those of there.

    Raises:
        SourceUnavailable: the source can't be listed.
    """
    import polars as pl

    store, origin = store_of(lake, dataset), dataset.origin
    ledger = ledger_of(lake, dataset.source)
    is_of_all = False
    if isinstance(store, Landing):
        assert isinstance(origin, ApiOrigin)
        listed = store.list(origin.requests.prefixes(partitions))
    elif recent and not isinstance(origin, ApiOrigin):
        listed = list_recent(store, origin.days, ledger, dataset.partitioning.first)
    elif found := _listed_about(store, dataset, ledger, partitions):
        listed = found
    else:
        listed, is_of_all = store.list(), True
    waiting = pending(
        listed.objects,
        ledger,
        retry_failed=retry_failed is True,
        answers=dataset.is_asked,
        reading=dataset.reading if reread else None,
    )
    if isinstance(retry_failed, Asking) and not isinstance(store, Landing):
        again = readable_again(store, listed.objects, ledger, retry_failed)
        waiting = pl.concat([waiting, again], how="diagonal")
    wanted = None if partitions is None else set(partitions)
    offered = []
    for row in waiting.iter_rows(named=True):
        item = version_of(row | {"version": stored_version(row["version"], dataset.reading)}, dataset)
        if item and (wanted is None or not item.is_one_day or wanted.intersection(item.partitions)):
            offered.append(item)
    offered.sort(key=lambda item: (item.first_partition, item.name, item.published_at))
    if isinstance(origin, ApiOrigin):
        return Discovery(offered)
    # Objects loaded before matched a pattern that the YAML may no longer have.
    new = waiting.join(ledger.select("object").unique().collect(), left_on="name", right_on="object", how="anti")
    unmatched = skipped("no pattern", [name for name in new["name"] if origin.is_foreign(name, dataset.partitioning)])
    return Discovery(offered, (unmatched, skipped("not listed", map(str, listed.passed_over))), is_of_all)


def _listed_about(
    store: ObjectSource, dataset: Dataset, ledger: pl.LazyFrame, partitions: Sequence[date] | None
) -> Listing | None:
    """The objects that may hold rows of the partitions; None where everything is to be listed."""
    if not partitions or isinstance(dataset.origin, ApiOrigin):
        return None
    known, first = dataset.partitioning, min(partitions)
    # An object of a day without a partition, such as a holiday, is loaded by the next one.
    before = known.between(max(known.first, first - _EARLIER), first)[:-1] if first > known.first else []
    if not before:
        return None
    until = known.over_at(max(partitions)).date()
    return list_days(store, dataset.origin.days, ledger, before[-1] - _CLOCKS, until + _CLOCKS)


def version_of(row: Mapping[str, Any], dataset: Dataset) -> ObjectVersion | None:
    """A row of a listing as an object version of a dataset; None if the dataset takes no object of that name."""
    published, partitions = row["published_at"], dataset.partitioning
    assert isinstance(published, datetime)
    named = dataset.parse_name(str(row["name"]))
    if named is None:
        return None
    if named.first_day == named.last_day:
        first_day, about = named.first_day, dataset.partitions_of(named)
    else:
        first_day = max(named.first_day, partitions.first)
        # An object can't cover days after its publication.
        last_day = min(named.last_day, today(partitions, published))
        inside = partitions.between(first_day, last_day)
        # The day with which the dataset begins may be none with a partition, such as New Year's Day.
        first = partitions.on_or_after(first_day) or next(iter(inside), None)
        about = [] if first is None else [first, *inside[-1:]]
    if not about:
        return None
    facts = {name: row[name] for name in ("name", "version", "size", "published_at", "path", "tag")}
    return ObjectVersion(
        **facts,
        first_day=first_day,
        last_day=named.last_day,
        first_partition=about[0],
        last_partition=max(about),
        values=named.values,
        partitions=tuple(about),
        slot=row.get("slot") or 0,
    )
