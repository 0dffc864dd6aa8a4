"""Which partitions share objects: an object named after one day may hold rows of its neighbours, where the days of
names are on another clock than the partitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import lru_cache

from lakehouse.ingest.dataset import Dataset
from lakehouse.ingest.ledger import LEDGER
from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot


def shared_partitions(lake: Lake, dataset: Dataset, partitions: Sequence[date]) -> set[date]:
    """The partitions that have rows in any version of the objects which have rows of `partitions`, or are loaded by one
    of them, by the ledger.
    """
    if dataset.part.unit != "day" or not partitions:
        return set()
    return set(_shared(_LedgerState(lake.table(LEDGER).snapshot()), dataset.source, dataset.name, tuple(partitions)))


class _LedgerState:
    """A state of the ledger. Two are equal where they are the same version of the same table."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        table = snapshot.delta and snapshot.delta.metadata().id
        self._identity = snapshot.table.uri, table, snapshot.version

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _LedgerState) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)


@lru_cache(maxsize=64)
def _shared(ledger: _LedgerState, source: str, dataset: str, partitions: tuple[date, ...]) -> frozenset[date]:
    """Remembers the latest: each step and each check of a run asks about the same partitions of each dataset."""
    import polars as pl

    rows = ledger.snapshot.scan().filter((pl.col("source") == source) & (pl.col("product") == dataset))
    about = (pl.col("first_session") <= max(partitions)) & (pl.col("last_session") >= min(partitions))
    days = pl.col("parts").list.eval(pl.element().struct.field("part"))
    has_rows = days.list.set_intersection(list(partitions)).list.len() > 0
    # A former version of an object, or a former reading of it, may have had rows of still other partitions.
    loaded_by = pl.col("first_session").is_in(list(partitions))
    objects = rows.filter(about).filter(has_rows | loaded_by).select("object").unique()
    found = rows.join(objects, on="object", how="semi").select(days.explode().unique()).collect()
    return frozenset(found["parts"].drop_nulls().to_list())
