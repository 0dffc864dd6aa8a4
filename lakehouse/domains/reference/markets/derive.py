"""The tables and views of a register of markets."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from lakehouse.derive.by_partition import derive_by_partition, partitions_as_of
from lakehouse.derive.source import DerivedTable, Source, Winners
from lakehouse.domains.reference.contracts import contracts
from lakehouse.domains.reference.markets import rules
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Relation, relation_of

if TYPE_CHECKING:
    import duckdb


def _published(source: Source, connection: object, raw: Relation, ledger: Relation) -> str:
    return rules.published(raw, ledger, contracts()["published_markets"].column_names)


PUBLISHED_MARKETS = DerivedTable(
    name="published_markets",
    description="The markets of every publication, one row per market and publication.",
    depends_on=("raw_markets",),
    derive=partial(derive_by_partition, "markets", "published_markets", _published),
    as_of=partial(partitions_as_of, "markets", _published),
    keeps=Winners("markets", rules.PUBLISHED),
)


def _rows(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Any) -> Relation:
    return relation_of(lake.select(source.table(PUBLISHED_MARKETS.name), connection))


def markets(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for `<source>.markets`."""
    columns = ", ".join(contracts()["markets"].column_names)
    return f"SELECT {columns} FROM ({rules.markets(_rows(lake, connection, source), source.name)})"


def mic(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for `<source>.mic`."""
    return rules.mic(_rows(lake, connection, source))


def identifiers(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for the source's identifiers."""
    return rules.entities_of_codes(_rows(lake, connection, source), source.name)
