"""Manual updates: loads, derives, checks and publishes what is new at the sources, as their sensors and schedules do
while Dagster runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING

from lakehouse.api import Lake
from lakehouse.catalog import sources, updated_source
from lakehouse.derive.source import Source
from lakehouse.errors import DatabaseUnavailable, LakehouseError, SourceError, SourceUnavailable
from lakehouse.ingest.dataset import Dataset
from lakehouse.ingest.discover import discover
from lakehouse.ingest.ledger import ledger_of
from lakehouse.ingest.partitioning import begun
from lakehouse.local_dagster.backfill import Outcome, prepared_home, run_chain
from lakehouse.local_dagster.display import Display
from lakehouse.local_dagster.instance import opened_instance, storage_faults_explained
from lakehouse.settings import settings
from lakehouse.warehouse.publish import is_current

if TYPE_CHECKING:
    from lakehouse.components.sources.sensor import PartitionRange


def update_sources(names: Sequence[str], display: Display) -> Iterator[tuple[str, Outcome | LakehouseError | str]]:
    """Updates the named sources, or all by default. Yields the source and the outcome of each run, or why there was no
    run: without names, a source with missing settings is skipped with its reason, and one that can't be updated with
    its error.

    Raises:
        SourceError: a named source is unknown, can't be loaded, or its settings are incomplete.
        SourceUnavailable, DatabaseUnavailable: a named source doesn't answer.
        LakeUnavailable: the lake's storage can't be read, or Dagster's can't be written.
    """
    for source in [updated_source(name) for name in names] or sources().values():
        if not source.is_updated:
            continue
        try:
            if not names and (lacking := source.lacks()):
                yield source.name, lacking
                continue
            source.require_settings()
            display.show(f"looking at {source.name}", 0, 0)
            stretches = news(source)
        except (DatabaseUnavailable, SourceError, SourceUnavailable) as error:
            if names:
                raise
            yield source.name, error
            continue
        if not stretches:
            yield source.name, "nothing new"
        for partitions in stretches:
            yield source.name, run_chain(source, partitions, display)


def news(source: Source) -> list[list[date]]:
    """The partitions to take in, as stretches of neighbouring ones: what has new or changed objects, what an API has to
    be asked about again, and what an earlier run left half done. One stretch without partitions, where whole tables
    have news or were left half done.
    """
    lake = Lake.present()
    looked_at = source.stepwise or source.datasets
    pending = [
        item
        for dataset in looked_at
        if not dataset.is_asked
        for item in discover(lake, dataset, retry_failed=True).pending
    ]
    failed = _failed_ranges(source)
    if not source.datasets:
        # The commands that capture don't publish.
        is_due = source.has_news(lake) or failed or not is_current(settings(), source.kind)
        return [source.present] if is_due else []
    if not source.stepwise:
        return [[]] if pending or failed or any(dataset.is_asked for dataset in looked_at) else []
    asked = {day for dataset in looked_at if dataset.is_asked for day in _to_be_asked_about(lake, dataset)}
    wanted = {item.first_partition for item in pending} | asked | _left_half_done(source, failed)
    known = begun(source.stepwise[0].partitioning, min(wanted)) if wanted else []
    return _neighbours(known, wanted)


def _to_be_asked_about(lake: Lake, dataset: Dataset) -> list[date]:
    """The partitions from the newest loaded one on, which is included since it may have grown; the current partition
    if the API was never requested.
    """
    import polars as pl

    loaded = ledger_of(lake, dataset.source).filter(
        (pl.col("product") == dataset.name) & (pl.col("status") != "failed")
    )
    newest = loaded.select(pl.col("last_session").max()).collect().item()
    return begun(dataset.partitioning, newest or dataset.partitioning.first)[0 if newest else -1 :]


def _failed_ranges(source: Source) -> list[PartitionRange]:
    """The ranges of runs that failed or were killed after their objects were loaded, by Dagster's record of them."""
    from lakehouse.components.run_processes import fail_dead_runs
    from lakehouse.components.sources.sensor import failed_ranges

    prepared_home(settings())
    with storage_faults_explained(), opened_instance() as instance:
        fail_dead_runs(instance)
        return [stretch for stretch, _ in failed_ranges(instance, source)]


def _left_half_done(source: Source, failed: Sequence[PartitionRange]) -> set[date]:
    """The partitions of the runs that failed."""
    partitioning = source.stepwise[0].partitioning
    spans = [(stretch.first, stretch.last) for stretch in failed]
    return {day for first, last in spans if first and last for day in partitioning.between(first, last)}


def _neighbours(known: Sequence[date], wanted: set[date]) -> list[list[date]]:
    """Groups the wanted partitions into ranges that are adjacent in `known`."""
    found: list[list[date]] = []
    is_open = False
    for day in known:
        if day in wanted:
            found = [*found[:-1], [*found[-1], day]] if is_open else [*found, [day]]
        is_open = day in wanted
    return found
