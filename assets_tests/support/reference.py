"""A second opinion on the rules of the market domain: plain Python, row by row, without the lake's engines or code.

It follows the rules for bar files in Xetra's format: which rows are sound, which revision of a bar wins, what
became of the others, what a daily bar is. Tests hold the lake's tables against it. Nothing here reads or writes
a table, and nothing is imported from the product.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from assets_tests.support.whole_sessions import is_whole

HEADER = (
    "ISIN", "Mnemonic", "SecurityDesc", "SecurityType", "Currency", "SecurityID", "Date", "Time",
    "StartPrice", "MaxPrice", "MinPrice", "EndPrice", "TradedVolume", "NumberOfTrades",
)  # fmt: skip
BERLIN = ZoneInfo("Europe/Berlin")
CURRENCIES = frozenset({"EUR", "USD", "CHF", "GBP"})
MINUTE = timedelta(minutes=1)
CLOSING_AUCTION = timedelta(minutes=10)
"""How long after the close the regular segment goes on."""

Key = tuple[str, str, datetime]
"""Instrument, currency, start of the bar."""
DailyKey = tuple[str, str, date]


def csv_line(fields: Sequence[str]) -> str:
    """A row of a bar file without its line's end, quoted where the format needs it."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(fields)
    return out.getvalue()


def isin_is_valid(text: str) -> bool:
    """ISO 6166: two letters, nine letters or digits, and a check digit by Luhn over the expanded letters."""
    if not re.fullmatch(r"[A-Z]{2}[A-Z0-9]{9}[0-9]", text):
        return False
    digits = "".join(str(int(character, 36)) for character in text)
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(number // 10 + number % 10 for number in doubled) % 10 == 0


def isin(body: str) -> str:
    """The ISIN that begins with these eleven characters."""
    return next(body + str(digit) for digit in range(10) if isin_is_valid(body + str(digit)))


@dataclass(frozen=True)
class Version:
    """A version of an object, as the lake took it: `rows` are its rows' fields, None where it can't be read."""

    name: str
    version: str
    published_at: datetime
    taken: int
    """The load that took it, counted from 0."""
    day: date
    session: date
    rows: tuple[tuple[str, ...], ...] | None
    with_trades: bool = True
    """Whether it was read by settings that take the number of trades."""


@dataclass(frozen=True)
class Bar:
    """A sound row: a revision of a bar."""

    key: Key
    session: date
    content: tuple[Any, ...]
    """Symbol, name, type, vendor's number, open, high, low, close, volume, trades."""
    rank: tuple[Any, ...]
    place: tuple[str, str, int]
    """Object, version, row number."""
    published_at: datetime
    """Of the stored row."""


def sound(fields: Sequence[str], version: Version, number: int) -> Bar | None:
    """The bar that a row holds, or None where the row breaks a rule."""
    if len(fields) != len(HEADER):
        return None
    row = dict(zip(HEADER, fields, strict=True))
    try:
        start = datetime.fromisoformat(f"{row['Date']}T{row['Time']}:00+00:00")
        prices = [float(row[name]) for name in ("StartPrice", "MaxPrice", "MinPrice", "EndPrice")]
        volume = float(row["TradedVolume"])
        trades = int(row["NumberOfTrades"]) if row["NumberOfTrades"] and version.with_trades else None
    except ValueError:
        return None
    opened, high, low, closed = prices
    if not all(math.isfinite(price) and price > 0 for price in prices) or not 0 <= volume < 1e18 or (trades or 0) < 0:
        return None
    if high != max(prices) or low != min(prices):
        return None
    if not isin_is_valid(row["ISIN"]) or row["Currency"] not in CURRENCIES:
        return None
    if start.astimezone(BERLIN).date() != version.day or version.day != version.session:
        return None
    texts = [row[name] or None for name in ("Mnemonic", "SecurityDesc", "SecurityType", "SecurityID")]
    return Bar(
        key=(row["ISIN"], row["Currency"], start),
        session=version.session,
        content=(*texts, opened, high, low, closed, volume, trades),
        rank=(version.published_at, version.taken, version.name, number),
        place=(version.name, version.version, number),
        published_at=version.published_at,
    )


@dataclass
class Reference:
    """What a correct lake holds after it took `versions`, in this order, and derived in any order.

    `hours` gives each session's opening and the end of its regular segment, UTC; `expected` the objects (by name)
    that a session needs to be complete.
    """

    hours: Mapping[date, tuple[datetime, datetime]]
    expected: Mapping[date, Iterable[str]]
    versions: list[Version] = field(default_factory=list)

    def current(self) -> dict[str, Version]:
        """The version of each object that counts: the last one taken that could be read."""
        found: dict[str, Version] = {}
        for version in self.versions:
            if version.rows is not None:
                found[version.name] = version
        return found

    def stored_as(self, version: Version) -> Version:
        """The version under which the rows of `version` are stored: the first of its object, read by the same settings,
        that said the same.
        """
        wanted = (version.name, version.rows, version.with_trades)
        return next(other for other in self.versions if (other.name, other.rows, other.with_trades) == wanted)

    def is_latest(self, version: Version) -> bool:
        """Whether `version` was read by the settings by which the version that counts was read."""
        current = self.current().get(version.name)
        return current is not None and current.with_trades == version.with_trades

    def _stored(self) -> list[Version]:
        return [version for version in self.versions if version.rows and self.stored_as(version) is version]

    def _sorted_out(self) -> tuple[list[tuple[Version, Bar]], list[tuple[Version, int]]]:
        good, bad = [], []
        for version in self._stored():
            for number, fields in enumerate(version.rows or (), 1):
                bar = sound(fields, version, number)
                if bar is None:
                    bad.append((version, number))
                else:
                    good.append((version, bar))
        return good, bad

    def bars(self) -> dict[Key, Bar]:
        """The winning revision of each bar. It ranks by the version that says it, wherever its row is stored."""
        won: dict[Key, Bar] = {}
        for version in self.current().values():
            for number, fields in enumerate(version.rows or (), 1):
                bar = sound(fields, version, number)
                if bar is not None and (bar.key not in won or bar.rank > won[bar.key].rank):
                    stored = self.stored_as(version)
                    place = (stored.name, stored.version, number)
                    won[bar.key] = replace(bar, place=place, published_at=stored.published_at)
        return won

    def refused(self) -> set[tuple[str, str, int]]:
        """(object, version, row number) of each refused row that is stored."""
        return {(version.name, version.version, number) for version, number in self._sorted_out()[1]}

    def quarantined(self) -> set[tuple[str, str, int]]:
        """Those of the latest reading of each object."""
        bad = self._sorted_out()[1]
        return {(version.name, version.version, number) for version, number in bad if self.is_latest(version)}

    def fates(self) -> dict[date, Counter[str]]:
        """What became of the rows of each session: received, kept, duplicates, superseded, quarantined."""
        good, bad = self._sorted_out()
        won = self.bars()
        found: dict[date, Counter[str]] = defaultdict(Counter)
        for version in self.versions:
            if version.rows:
                found[version.session]["received"] += len(version.rows)
                if self.stored_as(version) is not version:
                    # What an earlier version said as a whole is not stored again.
                    found[version.session]["duplicates"] += len(version.rows)
        for version, _ in bad:
            found[version.session]["quarantined" if self.is_latest(version) else "superseded"] += 1
        for version, bar in good:
            winner = won.get(bar.key)
            if winner is not None and winner.place == bar.place:
                fate = "kept"
            elif winner is not None and winner.content == bar.content and self.is_latest(version):
                fate = "duplicates"
            else:
                fate = "superseded"
            found[version.session][fate] += 1
        return dict(found)

    def segment(self, bar: Bar) -> str:
        """pre, regular or post."""
        opens, ends = self.hours[bar.session]
        return "pre" if bar.key[2] < opens else "regular" if bar.key[2] < ends else "post"

    def is_complete(self, session: date) -> bool:
        """Whether every object that the session needs was taken and could be read."""
        return set(self.expected[session]) <= set(self.current())

    def daily(self) -> dict[DailyKey, dict[str, Any]]:
        """The daily bars, with what follows from earlier sessions."""
        groups: dict[DailyKey, list[Bar]] = defaultdict(list)
        for bar in self.bars().values():
            if bar.content[8] > 0 and self.segment(bar) == "regular":
                groups[bar.key[0], bar.key[1], bar.session].append(bar)
        found: dict[DailyKey, dict[str, Any]] = {}
        last: dict[tuple[str, str], tuple[date, float]] = {}
        for key in sorted(groups, key=lambda key: (key[2], key)):
            rows = sorted(groups[key], key=lambda bar: bar.key[2])
            contents = [bar.content for bar in rows]
            known_trades = [content[9] for content in contents if content[9] is not None]
            close = contents[-1][7]
            prev_session, prev_close = last.get(key[:2], (None, None))
            found[key] = {
                "year": key[2].replace(month=1, day=1),
                "symbol": contents[-1][0],
                "name": contents[-1][1],
                "instrument_type": contents[-1][2],
                "open": contents[0][4],
                "high": max(content[5] for content in contents),
                "low": min(content[6] for content in contents),
                "close": close,
                "volume": sum(content[8] for content in contents),
                "trades": sum(known_trades) if known_trades else None,
                "turnover": math.fsum(content[7] * content[8] for content in contents),
                "vwap": None,
                "bar_count": len(rows),
                "first_bar_at": rows[0].key[2],
                "last_bar_at": rows[-1].key[2],
                "adjusted_as_of": None,
                "prev_session": prev_session,
                "prev_close": prev_close,
                "change_pct": None if prev_close is None else (close / prev_close - 1) * 100,
                "is_complete": is_whole(
                    self.is_complete(key[2]),
                    len(rows),
                    MINUTE,
                    self.hours[key[2]][0],
                    rows[-1].key[2] + MINUTE,
                    self.hours[key[2]][1] - CLOSING_AUCTION,
                ),
            }
            last[key[:2]] = (key[2], close)
        return found


def same_row(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a stored row says what the reference says; sums of products may differ in the last digits."""
    return all(
        math.isclose(stored[name], value, rel_tol=1e-9, abs_tol=1e-6)
        if name in ("turnover", "vwap") and value is not None
        else stored[name] == value
        for name, value in wanted.items()
    )
