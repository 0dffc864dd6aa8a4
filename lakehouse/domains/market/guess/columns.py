"""Guesses which column of an object is which column of raw_bars: by its name, and by its numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import TYPE_CHECKING

from lakehouse.ingest.shape import EPOCH, Shape, time_formats
from lakehouse.lake.standards import STANDARDS

if TYPE_CHECKING:
    import polars as pl

_NAMES = {
    "open": "open o openprice opening openingprice startprice first firstprice pxopen priceopen",
    "high": "high h highprice max maxprice highest pxhigh pricehigh hi",
    "low": "low l lowprice min minprice lowest pxlow pricelow lo",
    "close": "close c closeprice closing closingprice endprice last lastprice pxlast priceclose adjclose",
    "volume": "volume vol v qty quantity tradedvolume size totalvolume basevolume volumetraded tickvolume",
    "trades": "trades numberoftrades numtrades n transactions tradecount tradescount ticks",
    "vwap": "vwap vw wap averageprice avgprice weightedaverage",
    "symbol": "symbol ticker sym instrument code mnemonic pair ric contract root",
    "instrument_id": "isin figi instrumentid securityid secid",
    "currency": "currency ccy cur curr",
    "name": "name description securitydesc securityname longname",
}
_DATE_NAMES = frozenset(["date", "day", "dt", "tradedate", "tradingdate", "sessiondate"])
_CLOCK_NAMES = frozenset(["time", "tradetime", "tradingtime", "hour", "minute"])
_PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True)
class Columns:
    """What was guessed about an object's columns.

    Args:
        roles: column of raw_bars -> column of the object.
        time: columns that give the time together, and the formats that fit, the likeliest first.
        unused: the other columns.
        doubts: what couldn't be told.
    """

    roles: dict[str, str]
    time: tuple[str, ...]
    formats: tuple[str, ...]
    unused: tuple[str, ...] = ()
    doubts: tuple[str, ...] = field(default=())


def guess_columns(shape: Shape) -> Columns:
    """Guesses by names first; what these leave open, by the numbers."""
    time, formats = _time(shape)
    free = [name for name in shape.rows.columns if name not in time]
    roles = _by_name(free) if shape.has_header else {}
    doubts: list[str] = []
    missing = [role for role in _PRICES if role not in roles]
    if missing:
        roles = {role: name for role, name in roles.items() if role not in _PRICES}
        numbers = [name for name in free if name not in roles.values() and shape.is_number(name)]
        found = _prices_by_content(shape, numbers)
        roles |= found
        if found:
            doubts.append(f"which columns are open, high, low and close: {_list(found.values())} by their values")
        else:
            doubts.append(f"which columns are {_list(missing)}: map them in `columns`")
    rest = [name for name in free if name not in roles.values()]
    if "volume" not in roles and not shape.has_header:
        after = [name for name in rest if shape.is_number(name) and _place(shape, name) > _last_price(shape, roles)]
        if after:
            roles["volume"] = after[0]
            doubts.append(f"whether {after[0]}, the first number after the prices, is the volume")
    number = roles.get("instrument_id")
    if number is not None and "symbol" in roles and shape.is_number(number):
        roles["vendor_id"] = roles.pop("instrument_id")
    _add_identifiers(shape, roles, [name for name in rest if name not in roles.values()])
    unused = tuple(name for name in free if name not in roles.values())
    return Columns(roles, time, tuple(formats), unused, tuple(doubts))


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def letters(name: str) -> str:
    """A column's name by its letters alone, without what stands in parentheses; of a path, its last part."""
    return re.sub(r"\(.*?\)|[^a-z]", "", name.rpartition(".")[2].lower())


def _by_name(columns: Sequence[str]) -> dict[str, str]:
    known = {name: role for role, names in _NAMES.items() for name in names.split()}
    found: dict[str, str] = {}
    for role in _NAMES:
        named = [column for column in columns if known.get(letters(column)) == role]
        # The earlier a name stands in the list, the surer it is; adjclose never wins over close.
        ranks = _NAMES[role].split()
        if named:
            found[role] = min(named, key=lambda column: ranks.index(letters(column)))
    return found


def _time(shape: Shape) -> tuple[tuple[str, ...], list[str]]:
    """The columns of the time: a date with a clock time beats a date alone."""
    columns = shape.rows.columns
    single = {column: time_formats(shape, [column]) for column in columns}
    whole = {name: found for name, found in single.items() if found and (found[0] == EPOCH or _has_clock(found[0]))}
    dated = [name for name, found in single.items() if found and name not in whole]
    clocks = [name for name in columns if letters(name) in _CLOCK_NAMES or _is_clock(shape, name)]
    if whole:
        # What is named as a time, then what comes first; epochs could be other numbers.
        best = min(whole, key=lambda name: (not _is_named_time(name), whole[name][0] == EPOCH, columns.index(name)))
        return (best,), whole[best]
    dated.sort(key=lambda name: (letters(name) not in _DATE_NAMES, columns.index(name)))
    for date in dated:
        for clock in clocks:
            if clock != date and (found := time_formats(shape, [date, clock])):
                return (date, clock), [form for form in found if _has_clock(form)] or found
    if dated:
        return (dated[0],), single[dated[0]]
    return (), []


def _has_clock(form: str) -> bool:
    return "%H" in form or "%I" in form


def _is_clock(shape: Shape, column: str) -> bool:
    texts = shape.texts(column)
    return bool(texts) and all(re.fullmatch(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?", text) for text in texts)


def _is_named_time(name: str) -> bool:
    return bool(re.search(r"time|date|ts|stamp|window|begin|start", name.lower())) or letters(name) == "t"


def _prices_by_content(shape: Shape, columns: Sequence[str]) -> dict[str, str]:
    """Four neighbouring columns of numbers of which two are the highest and the lowest in each row."""
    import polars as pl

    numbers = _numbers(shape, columns)
    for start in range(len(columns) - 3):
        four = columns[start : start + 4]
        frame = numbers.select(four).drop_nulls()
        if frame.is_empty():
            continue
        for high, low in permutations(four, 2):
            fits = frame.select(
                ((pl.col(high) == pl.max_horizontal(four)) & (pl.col(low) == pl.min_horizontal(four))).all()
                & (pl.col(high) > pl.col(low)).any()
            ).item()
            if fits:
                first, last = (name for name in four if name not in (high, low))
                return {"open": first, "high": high, "low": low, "close": last}
    return {}


def _numbers(shape: Shape, columns: Sequence[str]) -> pl.DataFrame:
    import polars as pl

    comma = shape.form.decimal == ","
    return shape.rows.select(
        (pl.col(name).str.replace(",", ".", literal=True) if comma else pl.col(name)).cast(pl.Float64, strict=False)
        for name in columns
    )


def _place(shape: Shape, name: str) -> int:
    return shape.rows.columns.index(name)


def _last_price(shape: Shape, roles: dict[str, str]) -> int:
    return max((_place(shape, roles[role]) for role in _PRICES if role in roles), default=len(shape.rows.columns))


def _add_identifiers(shape: Shape, roles: dict[str, str], rest: Sequence[str]) -> None:
    """Finds ISINs, currencies and symbols by what the columns hold."""
    for name in rest:
        texts = shape.texts(name)
        if not texts:
            continue
        if "instrument_id" not in roles and is_isin(texts):
            roles["instrument_id"] = name
        elif "currency" not in roles and all(re.fullmatch(r"[A-Z]{3}", text) and is_currency(text) for text in texts):
            roles["currency"] = name
        elif "symbol" not in roles and all(re.fullmatch(r"[A-Z][A-Z0-9.^=/-]{0,14}", text) for text in texts):
            roles["symbol"] = name


def is_isin(texts: Sequence[str]) -> bool:
    """Whether all texts are ISINs, by their check digits."""
    import polars as pl

    return bool(texts) and STANDARDS["isin"].follow(pl.Series(texts)).all()


def is_currency(code: str) -> bool:
    """Whether a code is one of ISO 4217."""
    return STANDARDS["currency"].follows(code)
