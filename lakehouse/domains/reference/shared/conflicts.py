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
    return Query(f"""
        SELECT scheme, value, subject, source, object, row_number, valid_from, known_from, subjects FROM (
            SELECT *, count(DISTINCT subject) OVER (PARTITION BY scheme, value) AS subjects FROM {identifiers}
            WHERE known_to IS NULL AND valid_to IS NULL AND subject_scheme = 'lei'
        ) WHERE subjects > 1
    """)


def conflicts(sources: Sequence[Source], lake: Lake, connection: duckdb.DuckDBPyConnection) -> str:
    """The query for `reference.conflicts`."""
    _, identifiers = union_of("identifiers", contracts()["identifiers"])
    return conflicting(Relation(f"({identifiers(sources, lake, connection)})"))
