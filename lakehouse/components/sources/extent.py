"""From when on, and until when, Dagster's pages show a source's partitions.

They begin with the first partition that has rows, so that a lake that holds all its vendor delivers isn't shown as
nearly empty. Definitions load without reading the lake: the day is noted in the home's cache whenever rows are stored,
and counts when definitions are loaded the next time. Runs may be about earlier partitions all the same (see
`partitions.TimeWindows`).

They end today, unless `LAKEHOUSE_<SOURCE>_ENDS` names the last day of a vendor that delivers nothing any more.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from lakehouse.api import Lake
from lakehouse.derive.source import Source
from lakehouse.errors import LakeUnavailable, SourceError
from lakehouse.settings import Settings, settings
from lakehouse.whole_file import write_whole

_DAY = "day"
"""The partition column of tables that take in rows by day, other than by datasets."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extent:
    """The days between which partitions are shown. None: from the source's first, and up to today."""

    first: date | None = None
    last: date | None = None


EVERYTHING = Extent()


def shown_extent(source: Source, config: Settings | None = None) -> Extent:
    """The extent of a source, by its note and the settings.

    Raises:
        SourceError: the setting isn't a date.
    """
    known = config or settings()
    first = _noted(_note(known, source.name), known.lake) if source.begins_with_data else None
    return Extent(first, _last_day(source.name, known))


def _last_day(source: str, config: Settings) -> date | None:
    said = config.source_variable(source, "ends")
    try:
        return date.fromisoformat(said) if said else None
    except ValueError:
        raise SourceError(
            f"LAKEHOUSE_{source.upper()}_ENDS is {said!r}, which is not a date; write it as YYYY-MM-DD"
        ) from None


def note_extent(lake: Lake, source: Source) -> None:
    """Notes the first partition with rows that a source received, unless the note says so already."""
    first = min((date.fromisoformat(value) for value in _partition_values(lake, source)), default=None)
    note = _note(lake.config, source.name)
    if first is None or first == _noted(note, lake.config.lake):
        return
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        write_whole(note, json.dumps({"lake": lake.config.lake, "first": str(first)}))
    except OSError as error:
        _log.info("the first partition of %s can't be noted, so that Dagster shows all: %s", source.name, error)


def note_unknown_extents(lake: Lake, sources: Iterable[Source]) -> None:
    """Notes the extents of sources of which this home has no note: an earlier release or another home loaded them. A
    lake that can't be read is left for later.
    """
    unknown = [source for source in sources if _noted(_note(lake.config, source.name), lake.config.lake) is None]
    try:
        for source in unknown:
            note_extent(lake, source)
    except LakeUnavailable as error:
        _log.info("the first partitions can't be noted, so that Dagster shows all: %s", error)


def _partition_values(lake: Lake, source: Source) -> list[str]:
    """The storage partitions, named by dates, of the tables that take in rows partition by partition."""
    if source.datasets:
        parts = {dataset.table: dataset.part.column for dataset in source.stepwise}
    else:
        derived = {table.name for table in source.tables} | {*source.views}
        by_day = [name for name, contract in source.contracts.items() if contract.partition_by == (_DAY,)]
        parts = {source.table(name): _DAY for name in by_day if name not in derived}
    return [value for table, column in parts.items() for value in lake.table(table).snapshot().partition_values(column)]


def _note(config: Settings, source: str) -> Path:
    return config.home / "cache" / "extents" / f"{source}.json"


def _noted(note: Path, lake: str) -> date | None:
    """The day in a note; None without a note about this lake."""
    try:
        said = json.loads(note.read_text())
        return date.fromisoformat(said["first"]) if said["lake"] == lake else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
