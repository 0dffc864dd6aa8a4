"""The tables and views of judgements."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.by_partition import derive_whole, partitions_as_of
from lakehouse.derive.domain import union_of
from lakehouse.derive.source import DerivedTable, Source, Winners
from lakehouse.domains.reference.contracts import contracts
from lakehouse.domains.reference.judgements import rules
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Relation, relation_of

if TYPE_CHECKING:
    import duckdb

DATASET = "judgements"


def _decided(source: Source, connection: object, raw: Relation, ledger: Relation) -> str:
    return rules.decided(raw, ledger, contracts()["decided_judgements"].column_names)


DECIDED_JUDGEMENTS = DerivedTable(
    name="decided_judgements",
    description="Decisions about which legal entity a name stands for.",
    depends_on=("raw_judgements",),
    derive=partial(derive_whole, DATASET, "decided_judgements", _decided),
    as_of=partial(partitions_as_of, DATASET, _decided),
    keeps=Winners(DATASET, rules.DECIDED),
    is_whole=True,
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
