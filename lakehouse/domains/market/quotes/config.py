"""The model of a feed's `defs.yaml`: its API or broker, the meaning of the JSON members, and its windows.

Polling belongs in `poller`, subscribing in `nats`, and parsing an answer in `parse`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from lakehouse.domains.market.api import SymbolsApi
from lakehouse.domains.market.contracts import contracts
from lakehouse.domains.market.quotes.rules import WindowRule
from lakehouse.ingest.strict import Description, Strict
from lakehouse.ingest.thresholds import RefusalWarning

_ALL_SYMBOLS = ("{symbols}", "{symbols_json}")


class Broker(Strict):
    """A NATS JetStream stream that carries a feed, one quote per message."""

    url: str = Field("nats://127.0.0.1:4222", description="Server; LAKEHOUSE_<SOURCE>_NATS_URL overrides it.")
    stream: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="Name of the stream.")
    subject: str = Field(description="Subjects of the stream that are quotes, such as quotes.>.")
    durable: str = Field("lakehouse", pattern=r"^[A-Za-z0-9_-]+$", description="Name of the durable consumer.")


class Windows(Strict):
    """The sliding windows over the quotes."""

    resolutions_minutes: tuple[int, ...] = Field((1, 5, 15), min_length=1, description="Lengths of the windows.")
    period_s: int = Field(10, ge=1, description="Seconds between the ends of two windows of one length.")
    offset_s: int = Field(5, ge=0, description="Seconds from midnight UTC to a window end: 5 gives :05, :15, ...")
    lateness_s: int = Field(
        20, ge=0, description="Seconds for which a window stays open for late quotes after its end."
    )
    top: int = Field(3, ge=1, description="Ranks that top_stocks shows.")

    @model_validator(mode="after")
    def _periods_fit(self) -> Windows:
        if self.offset_s >= self.period_s or 86_400 % self.period_s:
            raise ValueError("windows end at the same seconds of every day: period_s divides 86400, offset_s is below")
        if unfit := [minutes for minutes in self.resolutions_minutes if minutes < 1 or minutes * 60 % self.period_s]:
            raise ValueError(f"resolutions_minutes {unfit} are not multiples of period_s")
        return self

    @property
    def rule(self) -> WindowRule:
        return WindowRule(
            tuple(timedelta(minutes=minutes) for minutes in self.resolutions_minutes),
            timedelta(seconds=self.period_s),
            timedelta(seconds=self.offset_s),
            timedelta(seconds=self.lateness_s),
        )


class FeedConfig(Description):
    """A feed of quotes."""

    renamed: ClassVar[Mapping[str, str]] = {
        "every_s": "poll_interval_s",
        "patience_s": "round_timeout_s",
        "fresh_s": "freshness_s",
    }

    description: str
    first_day: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description="First day (UTC) with a partition.")
    api: SymbolsApi
    path: str = Field(description="Path of a quote below the API's URL; {symbol} is filled in.")
    request: dict[str, str] = Field(
        {},
        description="Parameters of the request. {symbol} is filled in, and each symbol is a request; with {symbols} "
        "(divided by commas) or {symbols_json} (a JSON array) one request has them all, and `api.records` says where "
        "the answer has the array of quotes.",
    )
    poll_interval_s: float = Field(
        10.0, gt=0, description="Seconds between two rounds; rounds start at whole multiples."
    )
    round_timeout_s: float = Field(
        3.0, gt=0, description="Seconds that a round waits for its polls; later answers join the next round."
    )
    columns: dict[str, str] = Field(
        description="Member of the vendor's object, or its path such as price.last -> column of quotes. Without one "
        "for `symbol`, a quote is of the symbol that was asked for."
    )
    numbers_as_text: bool = Field(False, description="Whether the vendor writes numbers as JSON strings.")
    time_unit: Literal["s", "ms", "us", "ns", "rfc3339"] = Field(
        "ms", description="Unit of the vendor's update time since 1970, or rfc3339 for a text with an offset or Z."
    )
    broker: Broker | None = Field(
        None, description="Broker that pushes the same objects, as an alternative to polling."
    )
    windows: Windows = Windows()
    refusals: RefusalWarning = RefusalWarning()
    freshness_s: int = Field(120, ge=1, description="Seconds without a quote after which the feed counts as stopped.")

    @field_validator("columns")
    @classmethod
    def _are_columns(cls, columns: dict[str, str]) -> dict[str, str]:
        known = contracts()["quotes"].column_names
        if unknown := sorted(set(columns.values()) - set(known)):
            raise ValueError(f"{', '.join(unknown)} is not a column of quotes; the columns are {', '.join(known)}")
        if missing := {"latest_price", "event_time"} - set(columns.values()):
            raise ValueError(f"no member is mapped to {', '.join(sorted(missing))}; add it to columns")
        return columns

    @model_validator(mode="after")
    def _asks_for_symbols(self) -> FeedConfig:
        texts = (self.path, *self.request.values())
        if not self.asks_at_once and not any("{symbol}" in text for text in texts):
            raise ValueError(
                f"path {self.path!r} has no {{symbol}}; write it as /stock/{{symbol}}/quote, or name {{symbol}} or "
                "{symbols} in `request`"
            )
        if self.api.paging is not None or (self.api.records is not None) is not self.asks_at_once:
            raise ValueError(
                "a poll's answer about one symbol is one object: remove `records` and `paging`. One about all symbols "
                "needs `records`, the path of the array with their quotes, and has no pages"
            )
        if "symbol" not in self.columns.values() and (self.asks_at_once or self.broker is not None):
            raise ValueError("no member is mapped to symbol, which tells quotes of several symbols apart; add it")
        return self

    @property
    def asks_at_once(self) -> bool:
        """Whether one request asks for all symbols."""
        return any(name in text for text in (self.path, *self.request.values()) for name in _ALL_SYMBOLS)
