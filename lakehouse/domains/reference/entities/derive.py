"""The tables and views of legal entities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.derive.source import Source
from lakehouse.domains.reference.contracts import contracts
from lakehouse.domains.reference.entities import rules
from lakehouse.domains.reference.publications import Rows, current
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Query, relation_of

if TYPE_CHECKING:
    import duckdb

ENTITIES = Rows("entities", ("lei",), ("url", "api_url"))
RELATIONSHIPS = Rows("relationships", ("child", "parent", "relationship_type"), ("url", "api_url"))
EXCEPTIONS = Rows("exceptions", ("lei", "category"), ("url", "api_url"))
_UPDATED = "(last_updated_at AT TIME ZONE 'UTC')::DATE"


def _columns(table: str, query: Query) -> str:
    return f"SELECT {', '.join(contracts()[table].column_names)} FROM ({query})"


def entities(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for `<source>.entities`."""
    known = ENTITIES.known(lake, connection, source, _UPDATED)
    return _columns("entities", rules.entities(relation_of(known)))


def entity_events(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for `<source>.entity_events`."""
    known = ENTITIES.known(lake, connection, source, _UPDATED)
    return _columns("entity_events", rules.events(relation_of(known)))


def relationships(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for `<source>.entity_relationships`."""
    known = RELATIONSHIPS.known(lake, connection, source, _UPDATED)
    timed = rules.with_periods(relation_of(known))
    return _columns("entity_relationships", rules.relationships(relation_of(timed)))


def exceptions(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for `<source>.reporting_exceptions`."""
    known = EXCEPTIONS.known(lake, connection, source, "NULL::DATE")
    return _columns("reporting_exceptions", rules.exceptions(relation_of(known)))


def lei(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for `<source>.lei`."""
    names = [name for name in contracts()["lei"].column_names if name != "ingestion_timestamp"]
    known = ENTITIES.known(lake, connection, source, _UPDATED)
    return current(relation_of(known), dict(zip(names, names, strict=True)), ENTITIES.key)


def identifiers(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for the source's identifiers: each LEI, which stands for its entity until it is retracted."""
    return f"""
        SELECT 'lei' AS scheme, lei AS value, 'lei' AS subject_scheme, lei AS subject, source, object, row_number,
            valid_from, valid_to, known_from, known_to
        FROM ({rules.existence(relation_of(ENTITIES.known(lake, connection, source, _UPDATED)))})
    """
