"""Tells which requests of an API are about months before the vendor's data of their subject begin, such as those of a
share that was listed later.

Vendors answer such a request with an error rather than with no rows. One error doesn't say whether a name is mistyped,
a key is wrong, or a month is too early, but the ledger does: the vendor itself refused the month and answered others of
the same run, and it has rows of the subject for a later month, but for none before. Such a request is no failure. It is
sent again after `ASK_AGAIN_AFTER`, since vendors extend their histories now and then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from lakehouse.ingest.dataset import Dataset
from lakehouse.ingest.ledger import newest_entries

if TYPE_CHECKING:
    import polars as pl

ASK_AGAIN_AFTER = timedelta(days=30)


@dataclass(frozen=True)
class Unoffered:
    """A request that the vendor has nothing for."""

    object: str
    subject: str
    month: date
    error: str
    asked_at: datetime


def unoffered(datasets: Sequence[Dataset], ledger: pl.LazyFrame) -> list[Unoffered]:
    """The requests of a source about months before its data of their subject begin, by its whole ledger; by object."""
    by_name = {dataset.name: dataset for dataset in datasets if dataset.is_asked}
    found: list[Unoffered] = []
    for name, dataset in by_name.items():
        found += _of_dataset(dataset, ledger, name)
    return found


def _of_dataset(dataset: Dataset, ledger: pl.LazyFrame, name: str) -> list[Unoffered]:
    import polars as pl

    own = ledger.filter(pl.col("product") == name)
    refused = newest_entries(own.filter(pl.col("object").is_in(_ever_refused(own))))
    refused = refused.filter(pl.col("is_refused")).sort("object")
    rows = refused.select("object", "error", "ingested_at").collect().rows()
    if not rows:
        return []
    with_rows = own.filter(pl.col("status") == "loaded").select("object").unique().collect()["object"]
    months: dict[frozenset[tuple[str, str]], list[date]] = {}
    for loaded in with_rows:
        series, month = _series(dataset, loaded)
        months.setdefault(series, []).append(month)
    found = []
    for named, error, asked_at in rows:
        series, month = _series(dataset, named)
        if min(months.get(series, [month])) > month:
            parsed = dataset.parse_name(named)
            assert parsed is not None
            found.append(Unoffered(named, dataset.subject_of(parsed), month, error, asked_at))
    return found


def _ever_refused(ledger: pl.LazyFrame) -> list[str]:
    """The objects that were ever refused: few, so that only their entries are ordered."""
    import polars as pl

    return ledger.filter(pl.col("is_refused")).select("object").unique().collect()["object"].to_list()


def _series(dataset: Dataset, name: str) -> tuple[frozenset[tuple[str, str]], date]:
    """What a request is about besides its month, and that."""
    parsed = dataset.parse_name(name)
    if parsed is None:
        return frozenset({("", name)}), date.max
    return frozenset(item for item in parsed.values.items() if item[0] != "month"), parsed.first_day
