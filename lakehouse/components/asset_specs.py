"""What the assets of a source have in common when they are declared."""

from __future__ import annotations

from typing import Any

from lakehouse.components.metadata import definition_metadata
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.quotes.config import FeedConfig
from lakehouse.lake import Lake

CODE_VERSION = "2"
"""Raise it when the meaning of a derivation changes: Dagster then shows the stored tables as out of date."""


def declared(
    config: SourceConfig | FeedConfig, name: str, description: str, deps: list[str], kinds: set[str]
) -> dict[str, Any]:
    """The arguments of `dagster.asset` for the source's asset `name`, whose `deps` are of the same source."""
    return {
        "key": [config.source, name],
        "deps": [[config.source, dep] for dep in deps],
        "group_name": config.source,
        "kinds": kinds,
        "owners": config.owners,
        "tags": config.tags,
        "code_version": CODE_VERSION,
        "description": description,
    }


def stored(config: SourceConfig, table: str) -> dict[str, Any]:
    """The argument `metadata` of an asset that is a table of the lake."""
    metadata = definition_metadata(config.contract(table), Lake.present(), config.table(table))
    if config.bars.request and table in ("raw_bars", "bars", "daily_bars"):
        adjusted = config.parameters(config.bars).get("adjusted") == "true"
        metadata["prices"] = (
            "arrive adjusted for splits and dividends as of each answer" if adjusted else "arrive as traded"
        )
    if config.bars.volume_unit != 1 and "volume" in config.contract(table).column_names:
        metadata["volume_unit"] = config.bars.volume_unit
    return {"metadata": metadata}
