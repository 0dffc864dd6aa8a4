"""The conservation law: every row received is kept, an exact duplicate, superseded, or quarantined. Counted
from the stored tables, each from its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from lakehouse.derive.revisions import Revised, losers
from lakehouse.domains.market.bars.rules import BARS
from lakehouse.domains.market.corporate_actions.rules import OFFICIAL
from lakehouse.ingest.dataset import Bars, OfficialDaily, Product
from lakehouse.ingest.ledger import LEDGER
from lakehouse.ingest.versions import references
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import literal, predicate

if TYPE_CHECKING:
    import duckdb

COUNTS = ("received", "kept", "duplicates", "superseded", "quarantined")
"""The law's terms: the first is the sum of the others."""


_RULES: dict[type[Product], tuple[Revised, str]] = {Bars: (BARS, "bars"), OfficialDaily: (OFFICIAL, "official_daily")}
"""How the rows of a product's raw table are told apart, and the table that keeps the winners."""


def conservation(lake: Lake, connection: duckdb.DuckDBPyConnection, schema: str = "lake") -> str:
    """The query behind `lake.conservation`, over every source that the ledger knows."""
    queries = [
        f"({conservation_of(lake, connection, source, product)})"
        for source in lake.table(LEDGER).snapshot().partition_values("source")
        for product in _RULES
        if lake.table(f"{source}/{product.raw_table}").snapshot().delta is not None or product is Bars
    ]
    if not queries:
        nothing = ", ".join(f"0::BIGINT AS {name}" for name in COUNTS)
        return f"SELECT NULL::VARCHAR AS source, NULL::VARCHAR AS product, NULL::DATE AS session, {nothing} WHERE false"
    return " UNION ALL ".join(queries)


def conservation_of(
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    source: str,
    product: type[Product] = Bars,
    sessions: Sequence[date] | None = None,
) -> str:
    """The query for one product of a source, and only for `sessions` where they are given (then only their
    partitions are read). The second product's rows are counted by year: its first day stands for the session.
    """
    rules, kept = _RULES[product]
    part = rules.part
    partitions = None if sessions is None else {part: sessions}
    inside = "true" if sessions is None else predicate({"session": sessions})
    of_source = {"source": [source]}
    ledger = f"(SELECT * FROM ({lake.select(LEDGER, connection, of_source)}) WHERE product = {literal(product.name)})"
    # Which rows were known at a moment is said by the ledger.
    raw = f"({lake.table(f'{source}/{product.raw_table}').snapshot().select(partitions)})"
    # Reading as of a past moment derives the rows of all sessions; the filter is for the caller then.
    stored = f"({lake.select(f'{source}/{kept}', connection, partitions)})"
    quarantine = f"({lake.table('quarantine').snapshot().select(of_source)})"
    counted = "session" if part == "session" else f"date_trunc('{part}', session)::DATE"
    return f"""
        SELECT {literal(source)} AS source, {literal(product.name)} AS product, session,
            {", ".join(f"coalesce(sum({name}), 0)::BIGINT AS {name}" for name in COUNTS)}
        FROM (
            SELECT part AS session, rows AS received, CASE WHEN is_first THEN 0 ELSE rows END AS duplicates
            FROM ({references(ledger)})
            UNION ALL BY NAME
            SELECT {part} AS session, count(*) AS kept FROM {stored} GROUP BY ALL
            UNION ALL BY NAME
            SELECT {part} AS session, count(*) FILTER (fate = 'duplicate') AS duplicates,
                count(*) FILTER (fate = 'superseded') AS superseded
            FROM ({losers(raw, ledger, rules)}) GROUP BY ALL
            UNION ALL BY NAME
            SELECT part AS session, count(*) FILTER (is_latest) AS quarantined,
                count(*) FILTER (NOT is_latest) AS superseded
            FROM {quarantine} AS refused JOIN ({references(ledger)}) AS stored
            ON refused.object = stored.object AND refused.object_version = stored.object_version
            AND {counted} = stored.part AND stored.is_first GROUP BY ALL
        ) WHERE {inside} GROUP BY session
    """


def conservation_totals(lake: Lake, source: str, sessions: Sequence[date]) -> dict[str, int]:
    """The law's counts of the bars of `sessions`, by their names."""
    sums = ", ".join(f"coalesce(sum({name}), 0)::BIGINT" for name in COUNTS)
    with lake.connect() as connection:
        query = conservation_of(lake, connection, source, sessions=sessions)
        row = connection.execute(f"SELECT {sums} FROM ({query})").fetchone()
    assert row is not None
    return dict(zip(COUNTS, row, strict=True))
