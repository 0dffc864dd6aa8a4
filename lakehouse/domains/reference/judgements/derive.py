"""The tables and views of judgements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lakehouse.derive.domain import union_of
from lakehouse.derive.source import Source
from lakehouse.domains.reference.contracts import contracts
from lakehouse.domains.reference.judgements import rules
from lakehouse.domains.reference.shared.winning import winning
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Relation, relation_of

if TYPE_CHECKING:
    import duckdb

DATASET = "judgements"


DECIDED_JUDGEMENTS = winning(
    DATASET,
    "raw_judgements",
    "decided_judgements",
    "Decisions about which legal entity a name stands for.",
    rules.DECIDED,
)


def identifiers(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for the source's identifiers."""
    rows = relation_of(lake.select(source.table(DECIDED_JUDGEMENTS.name), connection))
    return rules.identifiers(rows, source.name)


def judgements(sources: Sequence[Source], lake: Lake, connection: duckdb.DuckDBPyConnection) -> str:
    """The query for `reference.judgements`."""

    def united(table: str) -> Relation:
        return Relation(f"({union_of(table, contracts()[table])[1](sources, lake, connection)})")

    names = Relation(f"""(
        SELECT DISTINCT 'permid' AS scheme, organization_id AS value, organization_name AS name
        FROM {united("permid")} WHERE organization_id IS NOT NULL
        UNION ALL
        SELECT 'mic', mic, legal_entity_name FROM {united("markets")}
        WHERE known_to IS NULL AND valid_to IS NULL AND is_active AND lei IS NULL
    )""")
    proposed = relation_of(rules.proposals(names, united("lei")))
    return rules.judgements(proposed, united(DECIDED_JUDGEMENTS.name))
