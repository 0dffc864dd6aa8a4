"""A feed resolved from its YAML and the settings: the object that ingestion and derivation work with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any

from lakehouse.derive.source import Source
from lakehouse.domains.market.api import Symbols
from lakehouse.domains.market.quotes.config import FeedConfig
from lakehouse.ingest.http.config import Endpoint
from lakehouse.lake.lake import Lake

KIND = "feed"
QUOTES, WINDOWS, ERRORS = "quotes", "quote_windows", "poll_errors"
TOP, GAINS = "top_stocks", "percentage_gains"
"""Views of the windows."""


@dataclass(frozen=True, kw_only=True)
class Feed(Source):
    """A feed of quotes."""

    config: FeedConfig
    endpoint: Endpoint
    symbols: Symbols
    broker_url: str | None = field(repr=False)
    """The broker's URL, possibly with credentials; None if the feed has no broker."""

    @property
    def freshness(self) -> str:
        """When its tables are brought up to date."""
        return f"every {self.config.poll_interval_s:g} s; stopped after {self.config.freshness_s} s without a quote"

    def lacks(self) -> str | None:
        """See `Source.lacks`."""
        return self.endpoint.lacks_key

    def changed(self, **entries: Any) -> Feed:
        """Returns a copy of the feed with some YAML entries replaced."""
        return replace(self, config=self.config.model_copy(update=entries))

    def partitions_stored(self, lake: Lake) -> list[date]:
        """Returns every day (UTC) with quotes or windows, and the day after the last one, on which the windows of its
        last quotes end.
        """
        days = super().partitions_stored(lake)
        return [*days, days[-1] + timedelta(days=1)] if days else []
