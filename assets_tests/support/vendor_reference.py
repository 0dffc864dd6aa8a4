"""A second opinion on what a lake makes of a REST vendor's answers: plain Python, line by line, without the lake's
engines or code.

It reads the texts that the vendor sent: which of them are answers, which rows are sound, what bars, daily bars,
official rows and corporate actions follow from the last answer to each request. Nothing is imported from the product.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from assets_tests.support.whole_sessions import is_whole

NEW_YORK = ZoneInfo("America/New_York")
MINUTE = timedelta(minutes=1)
PRICES = ("open", "high", "low", "close")
Hours = Mapping[date, tuple[datetime, datetime]]
Row = dict[str, Any]


def is_answer(status: int, manner: str, body: bytes) -> bool:
    """Whether a reply that was sent is one that holds rows: whole, and with the header of a series."""
    return status == 200 and manner in ("whole", "slow") and b"timestamp," in body.partition(b"\n")[0]


@dataclass
class VendorReference:
    """What a correct lake holds after it was given `answers`.

    `hours` gives the opening and the close of each session. `take` is told each answer in the order in which they came.
    """

    hours: Hours
    answers: dict[tuple[str, str], tuple[datetime, str]] = field(default_factory=dict)
    """(symbol, month; "" for the official series) -> moment of the last answer by the vendor's clock, and its text."""
    refused: set[tuple[str, str, str]] = field(default_factory=set)
    """(symbol, month, line) of each row that broke a rule in any answer."""

    def take(self, symbol: str, month: str, at: datetime, text: str) -> None:
        self.answers[symbol, month] = (at, text)
        for line, row in _rows(text):
            if (self._bar(row) if month else _official(row)) is None:
                self.refused.add((symbol, month, line))

    def bars(self) -> dict[tuple[str, datetime], Row]:
        """(symbol, start) -> the bar."""
        found = {}
        for (symbol, month), (_, text) in self.answers.items():
            for _, row in _rows(text) if month else ():
                if bar := self._bar(row):
                    found[symbol, bar["start_at"]] = {"symbol": symbol, **bar}
        return found

    def daily(self) -> dict[tuple[str, date], Row]:
        """(symbol, session) -> the daily bar."""
        grouped = defaultdict(list)
        for bar in sorted(self.bars().values(), key=lambda bar: (bar["symbol"], bar["start_at"])):
            if bar["segment"] == "regular" and bar["volume"] > 0:
                grouped[bar["symbol"], bar["session"]].append(bar)
        found: dict[tuple[str, date], Row] = {}
        before: dict[str, tuple[date, float]] = {}
        for (symbol, session), bars in grouped.items():
            previous, close = before.get(symbol, (None, None)), bars[-1]["close"]
            opening, closing = self.hours[session]
            found[symbol, session] = {
                "open": bars[0]["open"],
                "high": max(bar["high"] for bar in bars),
                "low": min(bar["low"] for bar in bars),
                "close": close,
                "volume": sum(bar["volume"] for bar in bars),
                "bar_count": len(bars),
                "first_bar_at": bars[0]["start_at"],
                "last_bar_at": bars[-1]["start_at"],
                "prev_session": previous[0],
                "prev_close": previous[1],
                "adjusted_as_of": None,
                "is_complete": is_whole(
                    self._is_complete(session), len(bars), MINUTE, opening, bars[-1]["end_at"], closing
                ),
            }
            before[symbol] = (session, close)
        return found

    def official(self) -> dict[tuple[str, date], Row]:
        """(symbol, session) -> the official daily row."""
        return {
            (symbol, row["session"]): row
            for (symbol, month), (_, text) in self.answers.items()
            for row in (_official(row) for _, row in _rows(text) if not month)
            if row is not None
        }

    def actions(self) -> dict[tuple[str, date, str], float]:
        """(symbol, ex-date, kind) -> dividend a share, or coefficient of a split."""
        found = {}
        for (symbol, session), row in self.official().items():
            if row["dividend_amount"]:
                found[symbol, session, "dividend"] = row["dividend_amount"]
            if row["split_coefficient"] != 1:
                found[symbol, session, "split"] = row["split_coefficient"]
        return found

    def _is_complete(self, session: date) -> bool:
        """Every answer about the month was given after the session's close."""
        moments = [at for (_, month), (at, _) in self.answers.items() if month == f"{session:%Y-%m}"]
        return min(moments) >= self.hours[session][1]

    def _bar(self, row: Row | None) -> Row | None:
        if row is None or (values := _values(row)) is None:
            return None
        try:
            starts = datetime.strptime(row["timestamp"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=NEW_YORK).astimezone(UTC)
        except ValueError:
            return None
        ends = starts + MINUTE
        session = starts.astimezone(NEW_YORK).date()
        opening, closing = self.hours[session]
        segment = "pre" if starts < opening else "regular" if starts < closing else "post"
        return {"start_at": starts, "end_at": ends, "session": session, "segment": segment, **values}


def _rows(text: str) -> list[tuple[str, Row | None]]:
    """Each line after the header with its fields by name, None where their number is wrong."""
    header, *lines = text.splitlines()
    names = next(csv.reader([header]))
    fields = [next(csv.reader([line])) for line in lines]
    return [
        (line, dict(zip(names, row, strict=True)) if len(row) == len(names) else None)
        for line, row in zip(lines, fields, strict=True)
    ]


def _values(row: Row) -> Row | None:
    try:
        values: Row = {name: float(row[name]) for name in PRICES}
        volume = float(row["volume"])
    except ValueError:
        return None
    prices = list(values.values())
    if not all(math.isfinite(price) and price > 0 for price in prices) or not 0 <= volume < 1e18:
        return None
    if values["high"] != max(prices) or values["low"] != min(prices):
        return None
    return values | {"volume": volume}


def _official(row: Row | None) -> Row | None:
    if row is None or (values := _values(row)) is None:
        return None
    try:
        session = date.fromisoformat(row["timestamp"])
        further = {name: float(row[name]) for name in ("adjusted_close", "dividend_amount", "split_coefficient")}
    except ValueError:
        return None
    if further["dividend_amount"] < 0 or further["split_coefficient"] <= 0:
        return None
    return {"session": session, **values, **further}
