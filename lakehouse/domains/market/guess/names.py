"""Guesses the pattern of objects' names: the date, the hour and the symbol in them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from lakehouse.ingest.names import Objects

_DATES = (
    (r"\d{4}-\d{2}-\d{2}", "%Y-%m-%d"),
    (r"\d{4}_\d{2}_\d{2}", "%Y_%m_%d"),
    (r"\d{4}\.\d{2}\.\d{2}", "%Y.%m.%d"),
    (r"\d{4}/\d{2}/\d{2}", "%Y/%m/%d"),
    (r"\d{2}-\d{2}-\d{4}", "%d-%m-%Y"),
    (r"\d{2}\.\d{2}\.\d{4}", "%d.%m.%Y"),
    (r"(?<!\d)\d{8}(?!\d)", "%Y%m%d"),
    (r"(?<!\d)\d{8}(?!\d)", "%d%m%Y"),
    (r"(?<!\d)\d{8}(?!\d)", "%m%d%Y"),
    (r"(?<!\d)\d{6}(?!\d)", "%y%m%d"),
)
_DATA = re.compile(r"\.(csv|txt|tsv|dat|json|jsonl|ndjson|parquet|pq)(\.gz|\.zip)?$|\.(gz|zip)$", re.IGNORECASE)
_SYMBOL = r"[A-Za-z0-9.^=-]+"
_WORD = re.compile(r"[A-Za-z0-9.^=-]*[A-Za-z][A-Za-z0-9.^=-]*")
_GENERIC = frozenset(
    {
        *("csv", "txt", "tsv", "dat", "json", "jsonl", "parquet", "gz", "zip", "data", "bar", "bars", "ohlc", "ohlcv"),
        *(
            "min",
            "m1",
            "m5",
            "minute",
            "minutes",
            "hour",
            "hourly",
            "day",
            "daily",
            "intraday",
            "eod",
            "history",
            "hist",
        ),
        *("equities", "stocks", "shares", "etf", "fx", "crypto", "trades", "quotes", "full", "unadjusted", "adjusted"),
    }
)
_SHARE = 0.5


@dataclass(frozen=True)
class NamePattern:
    """The guessed names of objects.

    Args:
        has_symbol: whether the pattern has the group `symbol`.
        others: names that don't match, though they lie beside.
    """

    pattern: str
    holds: Literal["hour", "day", "history"]
    date_format: str | None
    has_symbol: bool
    others: tuple[str, ...]

    @property
    def objects(self) -> Objects:
        """The entry of the defs.yaml."""
        form: dict[str, Any] = {"date_format": self.date_format} if self.date_format else {}
        return Objects(pattern=self.pattern, holds=self.holds, **form)


def guess_names(names: Sequence[str], *, needs_symbol: bool) -> NamePattern:
    """Guesses the pattern of those names that look like data, or of all.

    Args:
        needs_symbol: the rows don't say their symbol, so that the name has to.
    """
    chosen = data_names(names)
    date = _date(chosen)
    parts = {name: _parts(name, date) for name in chosen}
    width, _ = Counter(map(len, parts.values())).most_common(1)[0]
    alike = [each for each in parts.values() if len(each) == width]
    symbol = _symbol_place(alike) if needs_symbol else None
    hour = _hour_place(alike, symbol) if date else None
    pattern = "".join(_piece(alike, place, date, symbol, hour) for place in range(width))
    holds: Literal["hour", "day", "history"] = "hour" if hour is not None else "day" if date else "history"
    found = NamePattern(pattern, holds, date[1] if date else None, symbol is not None, ())
    objects = found.objects
    others = tuple(name for name in names if objects.parse_name(name) is None)
    return NamePattern(pattern, holds, found.date_format, found.has_symbol, others)


def without_date(names: Sequence[str], found: NamePattern) -> NamePattern:
    """The same names where an object holds several days: its date says nothing about them."""
    if found.date_format is None:
        return found
    pattern = re.sub(r"\(\?P<(date|hour)>(.*?)\)", r"\2", found.pattern, count=2)
    pattern = re.sub(r"\(\?P=date\)", ".+", pattern)
    others = tuple(name for name in names if re.fullmatch(pattern, name) is None)
    return NamePattern(pattern, "history", None, found.has_symbol, others)


def data_names(names: Sequence[str]) -> list[str]:
    """The names of the most frequent kind of data file; all names where none looks like data."""
    kinds = Counter(match[0].lower() for name in names if (match := _DATA.search(name)))
    if not kinds:
        return list(names)
    kind = kinds.most_common(1)[0][0]
    return [name for name in names if (match := _DATA.search(name)) and match[0].lower() == kind]


def _date(names: Sequence[str]) -> tuple[str, str] | None:
    """The form of the date in the names, as an expression and a format: one that most names have."""
    for expression, form in _DATES:
        if sum(any(True for _ in _dates_in(name, expression, form)) for name in names) > _SHARE * len(names):
            return expression, form
    return None


def _dates_in(name: str, expression: str, form: str) -> Iterator[re.Match[str]]:
    for match in re.finditer(expression, name):
        try:
            if 1970 <= datetime.strptime(match[0], form).year <= 2100:
                yield match
        except ValueError:
            continue


_MARK = "\0"
"""Before and after a date in a name, which has no such character."""


def _parts(name: str, date: tuple[str, str] | None) -> list[str]:
    """A name cut at its separators, with each date (marked) as one part."""
    if date is not None:
        for match in reversed(list(_dates_in(name, *date))):
            name = f"{name[: match.start()]}{_MARK}{match[0]}{_MARK}{name[match.end() :]}"
    ending = _DATA.search(name)
    stem, end = (name[: ending.start()], ending[0]) if ending else (name, "")
    separators = rf"({_MARK}[^{_MARK}]*{_MARK}|\.(?={_MARK})|(?<={_MARK})\.|[/_ ]|-(?=\D)|(?<=\D)-|\d+(?=$|/))"
    return [part for part in re.split(separators, stem) if part] + [end]


def _symbol_place(alike: Sequence[list[str]]) -> int | None:
    """The part that is a symbol: one that differs from name to name, the last of them; of a single name, a word in
    capitals.
    """
    words = [
        place
        for place in range(len(alike[0]) - 1)
        if all(_WORD.fullmatch(each[place]) for each in alike)
        and not all(each[place].lower() in _GENERIC for each in alike)
    ]
    differing = [place for place in words if len({each[place] for each in alike}) > 1]
    capital = [place for place in words if all(each[place].upper() == each[place] for each in alike)]
    for candidates in (differing, capital, words):
        if candidates:
            return candidates[-1]
    return None


def _hour_place(alike: Sequence[list[str]], symbol: int | None) -> int | None:
    """The last part of two digits that is an hour in all names, and not always the same."""
    for place in reversed(range(len(alike[0]))):
        parts = {each[place] for each in alike}
        if place != symbol and len(parts) > 1 and all(re.fullmatch(r"[01]\d|2[0-3]", part) for part in parts):
            return place
    return None


def _piece(
    alike: Sequence[list[str]], place: int, date: tuple[str, str] | None, symbol: int | None, hour: int | None
) -> str:
    parts = {each[place] for each in alike}
    if date is not None and all(part.startswith(_MARK) for part in parts):
        expression = re.sub(r"\(\?<?!\\d\)", "", date[0])
        first = next(each for each in range(place + 1) if alike[0][each].startswith(_MARK))
        is_same = all(name[place] == name[first] for name in alike)
        return f"(?P<date>{expression})" if place == first else "(?P=date)" if is_same else expression
    if hour is not None and place == hour:
        return r"(?P<hour>\d{2})"
    if symbol is not None:
        same = [each for each in range(len(alike[0])) if all(name[each] == name[symbol] for name in alike)]
        if place == same[0]:
            return f"(?P<symbol>{_SYMBOL})"
        if place in same:
            return "(?P=symbol)"
    if date is not None and all(_is_of_date(each, place) for each in alike):
        return rf"\d{{{len(alike[0][place])}}}"
    if len(parts) == 1:
        return re.escape(parts.pop()).replace(r"\-", "-").replace(r"\ ", " ")
    return r"\d+" if all(part.isdecimal() for part in parts) else "[^/]+"


def _is_of_date(name: Sequence[str], place: int) -> bool:
    """Whether a part is a folder of a year, or of a month or day below one: others will come."""
    part, above = name[place], name[place - 2] if place > 1 else ""
    if not part.isdecimal() or name[place + 1] != "/":
        return False
    is_year = len(part) == 4 and 1970 <= int(part) <= 2100
    return is_year or (len(part) == 2 and above.isdecimal() and len(above) in (2, 4))
