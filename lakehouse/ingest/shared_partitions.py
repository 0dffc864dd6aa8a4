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
    """The partitions that have rows in any version of the objects which have rows of `partitions`, or are loaded by one
    of them, by the ledger.
    """
    import polars as pl

    if dataset.part.unit != "day" or not partitions:
        return set()
    ledger = ledger_of(lake, dataset.source).filter(pl.col("product") == dataset.name)
    about = (pl.col("first_session") <= max(partitions)) & (pl.col("last_session") >= min(partitions))
    days = pl.col("parts").list.eval(pl.element().struct.field("part"))
    has_rows = days.list.set_intersection(list(partitions)).list.len() > 0
    # A former version of an object, or a former reading of it, may have had rows of still other partitions.
    loaded_by = pl.col("first_session").is_in(list(partitions))
    objects = ledger.filter(about).filter(has_rows | loaded_by).select("object").unique()
    found = ledger.join(objects, on="object", how="semi").select(days.explode().unique()).collect()
    return set(found["parts"].drop_nulls().to_list())
