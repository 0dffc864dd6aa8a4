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
    path: str = Field(description="Path of a symbol's quote below the API's URL; contains {symbol}.")
    poll_interval_s: float = Field(
        10.0, gt=0, description="Seconds between two rounds; rounds start at whole multiples."
    )
    round_timeout_s: float = Field(
        3.0, gt=0, description="Seconds that a round waits for its polls; later answers join the next round."
    )
    columns: dict[str, str] = Field(description="Member of the vendor's object -> column of quotes.")
    time_unit: Literal["s", "ms", "us", "ns"] = Field("ms", description="Unit of the vendor's update time since 1970.")
    broker: Broker | None = Field(
        None, description="Broker that pushes the same objects, as an alternative to polling."
    )
    windows: Windows = Windows()
    refusals: RefusalWarning = RefusalWarning()
    freshness_s: int = Field(120, ge=1, description="Seconds without a quote after which the feed counts as stopped.")

    @field_validator("api")
    @classmethod
    def _answers_one_quote(cls, api: SymbolsApi) -> SymbolsApi:
        if api.records is not None:
            raise ValueError("a poll's answer is one object: remove `records` and `paging`")
        return api

    @field_validator("columns")
    @classmethod
    def _are_columns(cls, columns: dict[str, str]) -> dict[str, str]:
        known = contracts()["quotes"].column_names
        if unknown := sorted(set(columns.values()) - set(known)):
            raise ValueError(f"{', '.join(unknown)} is not a column of quotes; the columns are {', '.join(known)}")
        if missing := {"symbol", "latest_price", "event_time"} - set(columns.values()):
            raise ValueError(f"no member is mapped to {', '.join(sorted(missing))}; add it to columns")
        return columns

    @field_validator("path")
    @classmethod
    def _names_a_symbol(cls, path: str) -> str:
        if "{symbol}" not in path:
            raise ValueError(f"path {path!r} has no {{symbol}}; write it as /stock/{{symbol}}/quote")
        return path
