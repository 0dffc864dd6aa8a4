"""A feed of quotes, resolved: its YAML and the settings made into what taking it in and deriving from it work on."""

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
    """Where the broker is, perhaps with a login; None where the feed has none."""

    def changed(self, **entries: Any) -> Feed:
        """The feed with other values of its YAML's entries."""
        return replace(self, config=self.config.model_copy(update=entries))

    def partitions_stored(self, lake: Lake) -> list[date]:
        """Every day (UTC) that has quotes or windows, and the one after the last: there the windows of its last quotes
        end.
        """
        days = super().partitions_stored(lake)
        return [*days, days[-1] + timedelta(days=1)] if days else []
