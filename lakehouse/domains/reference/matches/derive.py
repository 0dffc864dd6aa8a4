"""The tables of matches, and what they say about identifiers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.derive.by_partition import raw_and_ledger
from lakehouse.derive.source import Source
from lakehouse.domains.reference.matches import rules
from lakehouse.domains.reference.shared.winning import winning
from lakehouse.lake.lake import Lake

if TYPE_CHECKING:
    import duckdb

DATASET = "matches"
MATCHED_PERMIDS = winning(
    DATASET,
    "raw_matches",
    "matched_permids",
    "The newest answer to each record: the entity that it is matched with.",
    rules.MATCHED,
)


def identifiers(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for the source's identifiers."""
    raw, ledger = raw_and_ledger(DATASET, lake, connection, source)
    return rules.identifiers(raw, ledger, source.name)
