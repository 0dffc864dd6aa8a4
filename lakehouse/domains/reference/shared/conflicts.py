"""Identifiers that stand for several legal entities at once. Nothing picks one of them: they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lakehouse.derive.domain import union_of
from lakehouse.derive.source import Source
from lakehouse.domains.reference.contracts import contracts
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Query, Relation

if TYPE_CHECKING:
    import duckdb


def conflicting(identifiers: Relation) -> Query:
    """The present rows of identifiers that stand for more than one entity."""
    # Of millions of identifiers few stand for several: count the entities of these only.
    return Query(f"""
        WITH now AS NOT MATERIALIZED (
            SELECT * FROM {identifiers} WHERE known_to IS NULL AND valid_to IS NULL AND subject_scheme = 'lei'
        ),
        several AS (
            SELECT hash(scheme, value) AS value_hash FROM now GROUP BY ALL
            HAVING min(hash(subject)) <> max(hash(subject))
        )
        SELECT scheme, value, subject, source, object, row_number, valid_from, known_from,
            count(DISTINCT subject) OVER (PARTITION BY scheme, value) AS subjects
        FROM now SEMI JOIN several ON hash(scheme, value) = value_hash
    """)


def conflicts(sources: Sequence[Source], lake: Lake, connection: duckdb.DuckDBPyConnection) -> str:
    """The query for `reference.conflicts`."""
    _, identifiers = union_of("identifiers", contracts()["identifiers"])
    return conflicting(Relation(f"({identifiers(sources, lake, connection)})"))
