"""Arguments that all asset declarations of a source share."""

from __future__ import annotations

from typing import Any

from lakehouse.api import Lake
from lakehouse.components.metadata import definition_metadata
from lakehouse.derive.source import Source

CODE_VERSION = "2"
"""Increase it when a derivation changes its results: Dagster then shows the stored tables as out of date."""


def declared(source: Source, name: str, description: str, deps: list[str], kinds: set[str]) -> dict[str, Any]:
    """The arguments of `dagster.asset` for the source's asset `name`, whose `deps` are of the same source."""
    return {
        "key": [source.name, name],
        "deps": [[source.name, dep] for dep in deps],
        "group_name": source.name,
        "kinds": kinds,
        "owners": list(source.owners),
        "tags": dict(source.tags),
        "code_version": CODE_VERSION,
        "description": description,
    }


def stored(source: Source, table: str) -> dict[str, Any]:
    """The argument `metadata` of an asset that is a table of the lake."""
    metadata = definition_metadata(source.contract(table), Lake.present(), source.table(table))
    return {"metadata": metadata | source.facts(table)}
