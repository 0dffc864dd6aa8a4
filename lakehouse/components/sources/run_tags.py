"""Run tags that say which partitions a run covers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import dagster as dg

from lakehouse.derive.source import Source
from lakehouse.lake.lake import Lake

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
PARTITION_TAG = "dagster/partition"
RELOAD_TAG = "lakehouse/reload"
"""Marks a run that reloads objects read with other settings."""
ONLY_NEW_TAG = "lakehouse/only_new"
"""Marks a run that asks APIs only what they haven't answered yet."""
NEXT_RUN_TAG = "lakehouse/next_run"
"""Names the run that continues this one, so that a process killed between the two leaves a trace."""
_FIRST_TAG = "lakehouse/first_session"
_LAST_TAG = "lakehouse/last_session"


def range_tags(first: date, last: date) -> dict[str, str]:
    """The tags of a run over the partitions from `first` to `last`, both included."""
    return {RANGE_START_TAG: first.isoformat(), RANGE_END_TAG: last.isoformat()}


def day_tags(first: date, last: date) -> dict[str, str]:
    """The tags of a run over one partition."""
    assert first == last
    return {PARTITION_TAG: first.isoformat()}


def about_tags(first: date, last: date) -> dict[str, str]:
    """The tags of a run of unpartitioned assets for the partitions from `first` to `last`.

    With `range_tags`, Dagster would plan such an asset once per partition of the range: for a year that takes longer
    than the work itself.
    """
    return {_FIRST_TAG: first.isoformat(), _LAST_TAG: last.isoformat()}


def asset_partitions(context: dg.AssetExecutionContext) -> list[date]:
    """The partitions that the step materializes, ascending."""
    return [date.fromisoformat(key) for key in context.partition_keys]


def tagged_partitions(
    tags: Mapping[str, str], lake: Lake, source: Source, partitions: dg.TimeWindowPartitionsDefinition | None
) -> list[date] | None:
    """The partitions that a run covers by its tags; None if it has none: a check run on its own covers the whole
    table.
    """
    found = None if partitions is None else tagged_days(tags, partitions)
    return None if found is None else source.together(lake, found)


def tagged_days(tags: Mapping[str, str], partitions: dg.TimeWindowPartitionsDefinition) -> list[date] | None:
    """The partitions that a run's tags name; None if they name none."""
    span = tagged_span(tags)
    if span is None:
        return None
    keys = partitions.get_partition_keys_in_range(dg.PartitionKeyRange(*map(str, span)))
    return [date.fromisoformat(key) for key in keys]


def tagged_span(tags: Mapping[str, str]) -> tuple[date, date] | None:
    """The first and the last partition that a run's tags name; None if they name none."""
    first = tags.get(RANGE_START_TAG) or tags.get(PARTITION_TAG) or tags.get(_FIRST_TAG)
    last = tags.get(RANGE_END_TAG) or tags.get(PARTITION_TAG) or tags.get(_LAST_TAG)
    return (date.fromisoformat(first), date.fromisoformat(last)) if first and last else None
