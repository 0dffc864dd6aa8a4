"""What is left to do for partitions of a source: so that work follows what changed, not the range asked for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from lakehouse.derive.evaluation import unevaluated
from lakehouse.derive.held_back import holds
from lakehouse.derive.source import Source
from lakehouse.ingest.discover import discover
from lakehouse.lake.lake import Lake


def unfinished(lake: Lake, source: Source, partitions: Sequence[date], description: str) -> list[date]:
    """Those of the partitions that have objects to be loaded, were not derived from the present inputs, were not
    checked as they are, are held back, or lack a report; ascending.

    An API has to be asked before one knows, and a table may not tell: then it is all of them.

    Raises:
        SourceUnavailable: the source, or the target of its report, can't be listed.
    """
    stepwise = [table for table in source.tables if not table.is_whole]
    if any(dataset.is_asked for dataset in source.stepwise) or any(table.outdated is None for table in stepwise):
        return list(partitions)
    found: set[date] = set()
    for dataset in source.stepwise:
        for item in discover(lake, dataset, retry_failed=True, partitions=partitions).pending:
            found.update(day for day in partitions if item.first_partition <= day <= item.last_partition)
    for hold in holds(lake, source.name):
        found.update(partitions if hold.scope is None else hold.scope)
    for table in stepwise:
        assert table.outdated is not None
        found.update(table.outdated(lake, source, partitions))
    found |= unevaluated(lake, source, partitions, description)
    found.update(source.unreported(lake, source, partitions))
    return sorted(found.intersection(partitions))
