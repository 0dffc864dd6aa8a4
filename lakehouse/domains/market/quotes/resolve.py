"""Resolves a feed's YAML and the settings into a `Feed`, with its tables, views and checks."""

from __future__ import annotations

from lakehouse.derive.source import DerivedTable
from lakehouse.domains.market.api import Symbols
from lakehouse.domains.market.contracts import contracts
from lakehouse.domains.market.quotes.checks import feed_checks
from lakehouse.domains.market.quotes.config import FeedConfig
from lakehouse.domains.market.quotes.derive import derive_days, quote_windows
from lakehouse.domains.market.quotes.feed import ERRORS, GAINS, KIND, QUOTES, TOP, WINDOWS, Feed
from lakehouse.domains.market.quotes.views import percentage_gains, top_stocks
from lakehouse.ingest.http.config import Endpoint
from lakehouse.ingest.variables import Variables

TABLES = (QUOTES, WINDOWS, ERRORS, TOP, GAINS)
"""The tables and views of a feed."""

WINDOWS_TABLE = DerivedTable(
    name=WINDOWS,
    description="Closed sliding windows over the quotes, one row per window and symbol.",
    depends_on=(QUOTES,),
    derive=derive_days,
    as_of=quote_windows,
)


def feed_of(config: FeedConfig, variables: Variables) -> Feed:
    """Returns the feed of a `defs.yaml` under the given settings."""
    api, broker = config.api, config.broker
    broker_url = variables.source_variable(config.source, "nats_url") or broker.url if broker else None
    return Feed(
        name=config.source,
        kind=KIND,
        description=config.description,
        owners=tuple(config.owners),
        tags=config.tags,
        contracts={table: contracts()[table] for table in TABLES},
        tables=(WINDOWS_TABLE,),
        views={TOP: top_stocks, GAINS: percentage_gains},
        checks=feed_checks(),
        config=config,
        endpoint=Endpoint.of(config.source, api, variables),
        symbols=Symbols(config.source, api.symbols, variables.source_variable(config.source, "symbols")),
        broker_url=broker_url,
    )
