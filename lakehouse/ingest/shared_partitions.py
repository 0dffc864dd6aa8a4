"""Which partitions share objects: an object named after one day may hold rows of its neighbours, where the days of
names are on another clock than the partitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from lakehouse.ingest.dataset import Dataset
from lakehouse.ingest.ledger import ledger_of
from lakehouse.lake.lake import Lake


def shared_partitions(lake: Lake, dataset: Dataset, partitions: Sequence[date]) -> set[date]:
    """The other partitions that have rows in the objects which have rows of `partitions`, by the ledger."""
    import polars as pl

    if dataset.part.unit != "day" or not partitions:
        return set()
    first, last = pl.col("first_session"), pl.col("last_session")
    about = (pl.col("product") == dataset.name) & (first <= max(partitions)) & (last >= min(partitions))
    found = (
        ledger_of(lake, dataset.source)
        .filter(about & (first < last))
        .select(parts=pl.col("parts").list.eval(pl.element().struct.field("part")))
        .filter(pl.col("parts").list.set_intersection(list(partitions)).list.len() > 0)
        .explode("parts")
        .unique()
        .collect()
    )
    return set(found["parts"].drop_nulls().to_list())
