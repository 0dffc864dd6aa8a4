"""A lake with sources of reference data, whose publications are loaded without Dagster."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.ingest.discover import discover
from lakehouse.ingest.load import LoadResult, load


def take(name: str, which: Callable[[str], bool] = lambda name: True) -> dict[str, LoadResult]:
    """Loads and derives everything that is new at a source, as a run does; the results by dataset."""
    lake, source, results = Lake.open(), described_source(name), {}
    for dataset in source.datasets:
        pending = discover(lake, dataset, retry_failed=True).pending
        days: set[date] = {day for item in pending for day in (*item.partitions, item.first_partition)}
        if not days:
            continue
        results[dataset.name] = load(lake, dataset, sorted(days))
        for table in source.tables:
            if dataset.contract.table in table.depends_on:
                table.derive(lake, source, sorted(days | results[dataset.name].parts))
    return results


def failed_checks(name: str) -> set[str]:
    """The checks of a source that its stored tables fail."""
    lake, source = Lake.open(), described_source(name)
    return {check.name for check in source.checks if not check.run(lake, source, None).passed}


def rows(query: str, as_of: datetime | None = None) -> list[tuple[Any, ...]]:
    found = Lake.open(as_of=as_of).sql(query)
    assert found is not None
    return found.fetchall()
