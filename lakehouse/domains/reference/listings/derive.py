"""The tables and views of listings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.derive.by_partition import raw_and_ledger
from lakehouse.derive.source import Source
from lakehouse.domains.reference.contracts import contracts
from lakehouse.domains.reference.listings import rules
from lakehouse.domains.reference.shared.winning import winning
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import relation_of

if TYPE_CHECKING:
    import duckdb

DATASET = "listings"


MAPPED_LISTINGS = winning(
    DATASET,
    "raw_listings",
    "mapped_listings",
    "The newest answer to each question about an ISIN, with every candidate.",
    rules.MAPPED,
)


def listings(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for `<source>.listings`."""
    columns = ", ".join(contracts()["listings"].column_names)
    raw, ledger = raw_and_ledger(DATASET, lake, connection, source)
    return f"SELECT {columns} FROM ({rules.listings(raw, ledger, source.name)})"


def identifiers(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for the source's identifiers."""
    return rules.identifiers(relation_of(listings(lake, connection, source)))


def instruments(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for `<source>.instruments`."""
    return rules.instruments(relation_of(listings(lake, connection, source)))


def figi(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for `<source>.figi`."""
    return rules.figi(relation_of(lake.select(source.table(MAPPED_LISTINGS.name), connection)))


def mapping_requests(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for `<source>.mapping_requests`."""
    _, ledger = raw_and_ledger(DATASET, lake, connection, source)
    return rules.requests(ledger, source.name)
