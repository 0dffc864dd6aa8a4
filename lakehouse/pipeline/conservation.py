"""The conservation law: every row received is kept, an exact duplicate, superseded, or quarantined. Counted from the stored tables, each from its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from lakehouse.lake.lake import Lake
from lakehouse.lake.ledger import LEDGER
from lakehouse.lake.table import literal
from lakehouse.market.bars import losers

if TYPE_CHECKING:
    import duckdb


def conservation(lake: Lake, connection: duckdb.DuckDBPyConnection, schema: str = "lake") -> str:
    """The query behind `lake.conservation`, over every source that the ledger knows."""
    sources = lake.table(LEDGER).snapshot().partition_values("source")
    if not sources:
        return "SELECT NULL::VARCHAR AS source, NULL::DATE AS session, " + ", ".join(
            f"0::BIGINT AS {name}" for name in ("received", "kept", "duplicates", "superseded", "quarantined")
        ) + " WHERE false"
    return " UNION ALL ".join(f"({conservation_of(lake, connection, source)})" for source in sources)


def conservation_of(lake: Lake, connection: duckdb.DuckDBPyConnection, source: str, sessions: Sequence[date] | None = None) -> str:
    """The query for one source, and only for `sessions` where they are given (then only their partitions are read)."""
    partitions = None if sessions is None else {"session": sessions}
    inside = "true" if sessions is None else f"session IN ({', '.join(map(literal, sessions))})" if sessions else "false"
    ledger = f"(SELECT * FROM ({lake.select(LEDGER, connection, {'source': [source]})}))"
    raw = f"({lake.select(f'{source}/raw_bars', connection, partitions)})"
    # Reading as of a past moment derives the bars of all sessions; the filter is for the caller then.
    bars = f"({lake.select(f'{source}/bars', connection, partitions)})"
    quarantine = f"({lake.select('quarantine', connection, {'source': [source]})})"
    return f"""
        SELECT {literal(source)} AS source, session,
            coalesce(sum(received), 0)::BIGINT AS received, coalesce(sum(kept), 0)::BIGINT AS kept, coalesce(sum(duplicates), 0)::BIGINT AS duplicates,
            coalesce(sum(superseded), 0)::BIGINT AS superseded, coalesce(sum(quarantined), 0)::BIGINT AS quarantined
        FROM (
            SELECT entry.session, entry.rows AS received FROM (SELECT unnest(sessions) AS entry FROM {ledger})
            UNION ALL BY NAME
            SELECT session, count(*) AS kept FROM {bars} GROUP BY session
            UNION ALL BY NAME
            SELECT session, count(*) FILTER (fate = 'duplicate') AS duplicates, count(*) FILTER (fate = 'superseded') AS superseded
            FROM ({losers(raw, ledger)}) GROUP BY session
            UNION ALL BY NAME
            SELECT session, count(*) AS quarantined FROM {quarantine} SEMI JOIN {ledger} USING (object, object_version) GROUP BY session
        ) WHERE {inside} GROUP BY session
    """
