"""Compares what several sources say about one venue: the marts have one row per MIC, that of the first source by name.

`dim_venue` and `dim_session` of the dbt project choose that row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lakehouse.derive.source import Check, Finding, Partitions
from lakehouse.domains.market.bars.config import SourceConfig, Venue
from lakehouse.lake.lake import Lake


def venue_check(table: str, sources: Mapping[str, SourceConfig], files: Mapping[str, str]) -> Check:
    """The check that a source's description of its venue agrees with those of other sources; part of a table's checks.

    Args:
        sources: all sources of market data by name, with what their YAML says.
        files: the path of each one's YAML.
    """

    def run(lake: Lake, source: Any, sessions: Partitions) -> Finding:
        found = contradictions(source.name, sources)
        shown = [f"{files[source.name]} and {files[other]} describe {said}" for other, said in found.items()]
        return Finding(not found, "; ".join(shown) if shown else "no other source describes the venue in other words")

    return Check(
        table,
        "venue_agrees",
        "Sources of the same venue (MIC) describe it in the same words. The marts show what the first of them by name "
        "says.",
        run,
        severity="warn",
    )


def contradictions(name: str, sources: Mapping[str, SourceConfig]) -> dict[str, str]:
    """The sources that describe the venue of the source `name` in other words, and how."""
    found: dict[str, list[str]] = {}
    for own in sources[name].markets:
        said = {other: venue for other, config in sources.items() for venue in config.markets if venue.mic == own.mic}
        for other, venue in said.items():
            if differences := _differences(own, venue, sources[name], sources[other]):
                found.setdefault(other, []).append(
                    f"{own.mic} differently: {', '.join(differences)}. The marts show what {min(said)} says"
                )
    return {other: "; ".join(differences) for other, differences in found.items()}


def _differences(own: Venue, other: Venue, source: SourceConfig, other_source: SourceConfig) -> list[str]:
    differences = [
        f"{entry} {said!r} and {also!r}"
        for entry, said in own.model_dump().items()
        if said != (also := getattr(other, entry))
    ]
    if source.calendar != other_source.calendar:
        differences.append(f"calendar {_in_short(source)} and {_in_short(other_source)}")
    return differences


def _in_short(config: SourceConfig) -> str:
    return repr(config.calendar.model_dump(exclude_defaults=True, mode="json"))
