"""The conservation law: every row received is kept, an exact duplicate, superseded, or quarantined. Counted
from the stored tables, each from its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from lakehouse.lake.lake import Lake
from lakehouse.lake.ledger import LEDGER
from lakehouse.lake.table import literal, predicate
from lakehouse.market.bars import losers

if TYPE_CHECKING:
    import duckdb

COUNTS = ("received", "kept", "duplicates", "superseded", "quarantined")
"""The law's terms: the first is the sum of the others."""


def conservation(lake: Lake, connection: duckdb.DuckDBPyConnection, schema: str = "lake") -> str:
    """The query behind `lake.conservation`, over every source that the ledger knows."""
    sources = lake.table(LEDGER).snapshot().partition_values("source")
    if not sources:
        nothing = ", ".join(f"0::BIGINT AS {name}" for name in COUNTS)
        return f"SELECT NULL::VARCHAR AS source, NULL::DATE AS session, {nothing} WHERE false"
    return " UNION ALL ".join(f"({conservation_of(lake, connection, source)})" for source in sources)


def conservation_of(
    lake: Lake, connection: duckdb.DuckDBPyConnection, source: str, sessions: Sequence[date] | None = None
) -> str:
    """The query for one source, and only for `sessions` where they are given (then only their partitions are read)."""
    partitions = None if sessions is None else {"session": sessions}
    inside = "true" if partitions is None else predicate(partitions)
    ledger = f"(SELECT * FROM ({lake.select(LEDGER, connection, {'source': [source]})}))"
    raw = f"({lake.select(f'{source}/raw_bars', connection, partitions)})"
    # Reading as of a past moment derives the bars of all sessions; the filter is for the caller then.
    bars = f"({lake.select(f'{source}/bars', connection, partitions)})"
    quarantine = f"({lake.select('quarantine', connection, {'source': [source]})})"
    return f"""
        SELECT {literal(source)} AS source, session,
            {", ".join(f"coalesce(sum({name}), 0)::BIGINT AS {name}" for name in COUNTS)}
        FROM (
            SELECT entry.session, entry.rows AS received FROM (SELECT unnest(sessions) AS entry FROM {ledger})
            UNION ALL BY NAME
            SELECT session, count(*) AS kept FROM {bars} GROUP BY session
            UNION ALL BY NAME
            SELECT session, count(*) FILTER (fate = 'duplicate') AS duplicates,
                count(*) FILTER (fate = 'superseded') AS superseded
            FROM ({losers(raw, ledger)}) GROUP BY session
            UNION ALL BY NAME
            SELECT session, count(*) AS quarantined FROM {quarantine}
            SEMI JOIN {ledger} USING (object, object_version) GROUP BY session
        ) WHERE {inside} GROUP BY session
    """


def conservation_totals(lake: Lake, source: str, sessions: Sequence[date]) -> dict[str, int]:
    """The law's counts over `sessions`, by their names."""
    sums = ", ".join(f"coalesce(sum({name}), 0)::BIGINT" for name in COUNTS)
    with lake.connect() as connection:
        query = conservation_of(lake, connection, source, sessions)
        row = connection.execute(f"SELECT {sums} FROM ({query})").fetchone()
    assert row is not None
    return dict(zip(COUNTS, row, strict=True))
