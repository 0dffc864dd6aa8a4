"""The conservation law: every received row is kept, an exact duplicate, superseded, or quarantined. Each term is
counted independently from its own stored table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import TYPE_CHECKING

from lakehouse.derive.revisions import losers
from lakehouse.derive.source import DerivedTable, Source
from lakehouse.ingest.ledger import LEDGER
from lakehouse.ingest.versions import references
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import literal, predicate, relation_of

if TYPE_CHECKING:
    import duckdb

COUNTS = ("received", "kept", "duplicates", "superseded", "quarantined")
"""The terms of the law: the first is the sum of the others."""
NOTHING_CONSERVED = (
    "SELECT NULL::VARCHAR AS source, NULL::VARCHAR AS product, NULL::DATE AS session, "
    + ", ".join(f"0::BIGINT AS {name}" for name in COUNTS)
    + " WHERE false"
)
"""The query that counts nothing."""


def conservation(sources: Iterable[Source], lake: Lake, connection: duckdb.DuckDBPyConnection) -> str:
    """The query behind `lake.conservation`, over every source that the ledger knows, or that counts its own rows."""
    known = list(sources)
    loaded = lake.table(LEDGER).snapshot().partition_values("source")
    queries = [
        f"({conservation_of(lake, connection, source, table)})"
        for source in known
        if source.name in loaded
        for table in source.tables
        if table.keeps is not None
    ]
    queries += [f"({each.conserved(lake, connection, each)})" for each in known if each.conserved is not None]
    return " UNION ALL ".join(queries) or NOTHING_CONSERVED


def conservation_of(
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    table: DerivedTable,
    partitions: Sequence[date] | None = None,
) -> str:
    """The query for the dataset whose winning rows `table` keeps, and only for `partitions` where they are given (then
    only theirs are read). Rows are counted by the raw table's storage partitions: the first day of a month or year
    stands for its partitions.
    """
    assert table.keeps is not None
    dataset, rules = source.dataset(table.keeps.dataset), table.keeps.revised
    part = rules.part
    wanted = None if partitions is None else {part: partitions}
    inside = "true" if partitions is None else predicate({"session": partitions})
    of_source = {"source": [dataset.source]}
    entered = lake.select(LEDGER, connection, of_source)
    ledger = relation_of(f"SELECT * FROM ({entered}) WHERE product = {literal(dataset.name)}")
    # The ledger determines which rows were known at a moment.
    raw = relation_of(lake.table(dataset.table).snapshot().select(wanted))
    # Reading as of a past moment derives the rows of all partitions; the filter is for the caller then.
    stored = f"({lake.select(source.table(table.name), connection, wanted)})"
    quarantine = f"({lake.table('quarantine').snapshot().select(of_source)})"
    return f"""
        SELECT {literal(dataset.source)} AS source, {literal(dataset.name)} AS product, session,
            {", ".join(f"coalesce(sum({name}), 0)::BIGINT AS {name}" for name in COUNTS)}
        FROM (
            SELECT part AS session, rows AS received, CASE WHEN is_first THEN 0 ELSE rows END AS duplicates
            FROM ({references(ledger)})
            UNION ALL BY NAME
            SELECT {dataset.part.in_sql("first_session")} AS session, rows_repeated AS received,
                rows_repeated AS duplicates
            FROM {ledger} WHERE rows_repeated > 0
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
            AND {dataset.part.in_sql("session")} = stored.part AND stored.is_first GROUP BY ALL
        ) WHERE {inside} GROUP BY session
    """
