"""Lakes that tests fill from the mapping API: loading, deriving and checking its source as a run does."""

from __future__ import annotations

from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.ingest.load import LoadResult, load


def take(name: str = "openfigi") -> LoadResult:
    """Asks the source's API, loads its answers and derives its tables; its blocking checks hold. The result is that of
    its first dataset.
    """
    return take_all(name)[0]


def take_all(name: str) -> list[LoadResult]:
    """The same with the results of all datasets."""
    lake, source = Lake.open(), described_source(name)
    loaded = [load(lake, dataset, [dataset.partitioning.first]) for dataset in source.datasets]
    for table in source.tables:
        table.derive(lake, source, [])
    failed = [check.name for check in source.checks if check.blocking and not check.run(lake, source, None).passed]
    assert failed == []
    return loaded
