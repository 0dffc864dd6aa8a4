"""The tables and views of listings."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.by_partition import derive_whole, partitions_as_of, raw_and_ledger
from lakehouse.derive.source import DerivedTable, Source, Winners
from lakehouse.domains.reference.contracts import contracts
from lakehouse.domains.reference.listings import rules
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Relation, relation_of

if TYPE_CHECKING:
    import duckdb

DATASET = "listings"


def _mapped(source: Source, connection: object, raw: Relation, ledger: Relation) -> str:
    return rules.mapped(raw, ledger, contracts()["mapped_listings"].column_names)


MAPPED_LISTINGS = DerivedTable(
    name="mapped_listings",
    description="The newest answer to each question about an ISIN, with every candidate.",
    depends_on=("raw_listings",),
    derive=partial(derive_whole, DATASET, "mapped_listings", _mapped),
    as_of=partial(partitions_as_of, DATASET, _mapped),
    keeps=Winners(DATASET, rules.MAPPED),
    is_whole=True,
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
