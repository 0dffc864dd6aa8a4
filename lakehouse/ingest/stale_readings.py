"""Finds objects that were read with other settings than the source has now. After a fix of the YAML, their rows and
rejections are still those of the earlier reading, until `lakehouse reload` reads them again as a new revision.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from lakehouse.ingest.dataset import Dataset
from lakehouse.ingest.ledger import UNANSWERED, ledger_of, newest_entries
from lakehouse.lake.lake import Lake

if TYPE_CHECKING:
    import polars as pl


def read_otherwise(datasets: Sequence[Dataset], ledger: pl.LazyFrame, *, with_unknown: bool = False) -> pl.DataFrame:
    """The objects whose newest version has another reading than its dataset: product, object, reading, first_session,
    last_session; sorted.

    Args:
        with_unknown: also the objects loaded by earlier releases, which did not record the reading.
    """
    import polars as pl

    now = {dataset.name: dataset.reading for dataset in datasets}
    answered = ledger.filter(pl.col("product").is_in(list(now)) & ~pl.col("object_version").str.ends_with(UNANSWERED))
    current = pl.col("product").replace_strict(now, return_dtype=pl.String)
    columns = ("product", "object", "reading", "first_session", "last_session")
    newest = newest_entries(answered).filter(pl.col("reading").ne_missing(current)).select(columns)
    found = newest if with_unknown else newest.filter(pl.col("reading").is_not_null())
    return found.sort("first_session", "object").collect()


def span_to_reload(
    lake: Lake, datasets: Sequence[Dataset], first: date | None = None, last: date | None = None
) -> Sequence[date]:
    """The first and the last partition, within `first` and `last`, of objects to reload; empty if all were read with
    the present settings.
    """
    import polars as pl

    found = read_otherwise(datasets, ledger_of(lake, datasets[0].source), with_unknown=True)
    if first is not None:
        found = found.filter(pl.col("last_session") >= first)
    if last is not None:
        found = found.filter(pl.col("first_session") <= last)
    if not found.height:
        return ()
    span = found.select(pl.col("first_session").min(), pl.col("last_session").max()).row(0)
    return max(span[0], first or span[0]), min(span[1], last or span[1])
