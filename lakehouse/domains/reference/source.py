"""A source of reference data, made of its YAML and the settings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.source import Source, TableQuery
from lakehouse.domains.reference.config import SourceConfig
from lakehouse.domains.reference.contracts import contracts
from lakehouse.domains.reference.exchange_codes.product import exchange_codes
from lakehouse.domains.reference.judgements.product import judgements
from lakehouse.domains.reference.listings.product import listings
from lakehouse.domains.reference.markets.product import markets
from lakehouse.domains.reference.matches.product import matches
from lakehouse.domains.reference.product import Product
from lakehouse.domains.reference.publisher import published
from lakehouse.domains.reference.searches.product import searches
from lakehouse.ingest.variables import Variables
from lakehouse.lake.lake import Lake

if TYPE_CHECKING:
    import duckdb

KIND = "reference"
IDENTIFIERS = "identifiers"


def reference_source(config: SourceConfig, variables: Variables) -> Source:
    """The source that a `defs.yaml` describes, on an installation with these settings."""
    products = list(_products(config, variables))
    views: dict[str, TableQuery] = {name: view for product in products for name, view in product.views.items()}
    said = tuple(product.identifiers for product in products if product.identifiers is not None)
    if said:
        views[IDENTIFIERS] = partial(_identifiers, said)
    tables = tuple(table for product in products for table in product.tables)
    datasets = tuple(dataset for product in products for dataset in product.datasets)
    names = [*(dataset.contract.table for dataset in datasets), *(table.name for table in tables), *views]
    return Source(
        name=config.source,
        kind=KIND,
        description=config.description,
        owners=tuple(config.owners),
        tags=config.tags,
        cron=config.cron,
        crons={name: cron for product in products for name, cron in product.crons.items()},
        contracts={name: contracts()[name] for name in names},
        datasets=datasets,
        tables=tables,
        views=views,
        checks=tuple(check for product in products for check in product.checks),
    )


def _products(config: SourceConfig, variables: Variables) -> Iterator[Product]:
    if config.markets is not None:
        yield markets(config, config.markets, variables)
    if config.exchange_codes is not None:
        yield exchange_codes(config, config.exchange_codes, variables)
    if config.listings is not None:
        yield listings(config, config.listings, variables)
    if config.searches is not None:
        yield searches(config, config.searches, variables)
    if config.matches is not None:
        yield matches(config, config.matches, variables)
    if config.judgements is not None:
        yield judgements(config, config.judgements, variables)
    yield from published(config, variables)


def _identifiers(
    said: tuple[TableQuery, ...], lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source
) -> str:
    """The query for `<source>.identifiers`: what all products of the source say."""
    columns = ", ".join(contracts()[IDENTIFIERS].column_names)
    return " UNION ALL ".join(f"SELECT {columns} FROM ({each(lake, connection, source)})" for each in said)
