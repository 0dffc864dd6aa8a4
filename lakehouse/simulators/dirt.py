"""What goes wrong in a bar feed: broken rows, bars without trades, repeated rows, a version full of errors.

Each function makes one kind of dirt; `exchange` places and counts it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Literal

import numpy as np
import polars as pl

from lakehouse.simulators.bar_files import BarRow
from lakehouse.simulators.market_model import Market, day_minute, epoch_minute, on_tick_grid

BAR_KEY = ["minute", "listing"]
_DUPLICATES = 5


def _next_day(row: BarRow) -> BarRow:
    return replace(row, date=date.fromisoformat(str(row.date)) + timedelta(days=1))


def _wrong_check_digit(row: BarRow) -> BarRow:
    return replace(row, isin=row.isin[:-1] + str((int(row.isin[-1]) + 1) % 10))


FAULTS: dict[str, Callable[[BarRow], str]] = {
    "high_below_low": lambda row: replace(row, max_price=float(row.min_price) / 2).line(),
    "negative_price": lambda row: replace(row, start_price=f"-{row.min_price}", min_price=f"-{row.min_price}").line(),
    "not_finite": lambda row: replace(row, max_price="inf").line(),
    "text_in_number": lambda row: replace(row, volume="n/a").line(),
    "missing_value": lambda row: replace(row, end_price="").line(),
    "wrong_check_digit": lambda row: _wrong_check_digit(row).line(),
    "unknown_currency": lambda row: replace(row, currency="EUX").line(),
    "outside_file_date": lambda row: _next_day(row).line(),
    "extra_field": lambda row: row.line().replace(f'"{row.description}"', "MUSTER WERKE, DRITTE O.N.", 1),
    "missing_field": lambda row: row.line().rpartition(",")[0],
}
"""Ways in which a row breaks its contract: from a sound row to the broken one's text."""


def technical_bars(market: Market, rng: np.random.Generator) -> pl.DataFrame:
    """Zero-volume reference prices at 04:00 and 19:30 UTC and in session, as rows of `Market.bars`.

    The evening before a split they are already divided by its factor. None has the key of a traded bar.
    """
    count = len(market.listings)
    frames = []
    for index, (session, open_at, close_at) in enumerate(market.sessions):
        closing = market.closing_prices[index]
        evening, evening_prices = rng.random(count) < 0.06, closing.copy()
        for split in market.splits:
            if [following.session for following in market.sessions[index + 1 : index + 2]] == [split.ex_session]:
                splitting = np.array([listing.isin == split.isin for listing in market.listings])
                evening |= splitting
                evening_prices[splitting] /= split.factor
        for listing, prices, clock in (
            (np.flatnonzero(rng.random(count) < 0.01), closing, 4 * 60),
            (np.flatnonzero(evening), evening_prices, 19 * 60 + 30),
        ):
            minute = np.full(listing.size, day_minute(session) + clock)
            frames.append(_untraded_bars(market, listing, session, minute, prices, rng))
        listing = np.flatnonzero(rng.random(count) < 0.1)
        minutes = rng.integers(epoch_minute(open_at), epoch_minute(close_at), listing.size)
        frames.append(_untraded_bars(market, listing, session, minutes, closing, rng))
    return pl.concat(frames).unique(BAR_KEY, maintain_order=True).join(market.bars, on=BAR_KEY, how="anti")


def system_test_bars(market: Market, day: date, rng: np.random.Generator) -> pl.DataFrame:
    """A system test on `day`, no session: every listing once, nothing traded, `session` null."""
    listing = np.arange(len(market.listings))
    minutes = day_minute(day) + 8 * 60 + rng.integers(20, 60, listing.size)
    return _untraded_bars(market, listing, None, minutes, market.closing_prices[0], rng)


def _untraded_bars(
    market: Market,
    listing: np.ndarray,
    session: date | None,
    minute: np.ndarray,
    closing_prices: np.ndarray,
    rng: np.random.Generator,
) -> pl.DataFrame:
    # Off the last trade's price, as in the real feed, so that taking one for a close shows.
    price = on_tick_grid(closing_prices[listing] * rng.uniform(0.97, 1.03, listing.size))
    return (
        pl.DataFrame({"listing": listing, "minute": minute} | dict.fromkeys(("open", "high", "low", "close"), price))
        .cast(pl.Int64)
        .with_columns(
            session=pl.lit(session, dtype=pl.Date),
            volume=pl.lit(0, dtype=pl.Int64),
            trades=pl.lit(1, dtype=pl.Int64),
        )
        .select(market.bars.columns)
    )


def erroneous_version(
    bars: pl.DataFrame, rng: np.random.Generator
) -> tuple[pl.DataFrame, list[tuple[Literal["changed", "added", "withdrawn"], int, int]]] | None:
    """An object's bars as first published, where `bars` is what the correction will say.

    Three bars have another close and volume, one is missing, and one is too many, its price above all others.
    Returns them with what the correction does: (kind, minute, listing). None where `bars` are too few.
    """
    traded = bars.filter(pl.col("volume") > 0)
    cells = traded.select("minute").unique().join(traded.select("listing").unique(), how="cross")
    free = cells.join(bars, on=BAR_KEY, how="anti").sort(BAR_KEY)
    if traded.height < 5 or free.is_empty():
        return None
    *changed, missing, model = traded[rng.permutation(traded.height)[:5]].iter_rows(named=True)
    minute, listing = free.row(int(rng.integers(free.height)))
    price = 2 * max(traded.filter(pl.col("listing") == listing)["high"].to_list())
    wrong = [row | {"close": row["high"], "volume": row["volume"] * 10} for row in changed]
    extra = model | {"minute": minute, "listing": listing} | dict.fromkeys(("open", "high", "low", "close"), price)
    replaced = pl.DataFrame([*changed, missing], schema=bars.schema)
    return (
        pl.concat([bars.join(replaced, on=BAR_KEY, how="anti"), pl.DataFrame([*wrong, extra], schema=bars.schema)]),
        [("changed", row["minute"], row["listing"]) for row in changed]
        + [("added", missing["minute"], missing["listing"]), ("withdrawn", minute, listing)],
    )


def unwanted_rows(
    lines: dict[int, list[str]], hours: Sequence[int], rng: np.random.Generator
) -> list[tuple[int, int, str, str]]:
    """Rows to insert into the objects of `hours`: (hour, how many of its lines go before, kind, text).

    Each of FAULTS once, made from a sound row, which stays; five copies of a row, a few lines below it; and
    three of an hour's last rows a second time, at the top of the next hour's object. `kind` is a key of
    FAULTS or "duplicate".
    """
    inserts = []
    for kind in [*FAULTS, *["duplicate"] * _DUPLICATES] if hours else []:
        hour = hours[int(rng.integers(len(hours)))]
        place = int(rng.integers(len(lines[hour])))
        line = lines[hour][place]
        if kind == "duplicate":
            inserts.append((hour, min(place + int(rng.integers(1, 9)), len(lines[hour])), kind, line))
        else:
            inserts.append((hour, place + 1, kind, FAULTS[kind](BarRow.parse(line))))
    repeated = next((hour for hour in hours if hour + 1 in hours), None)
    if repeated is not None:
        inserts += [(repeated + 1, 0, "duplicate", line) for line in lines[repeated][-3:]]
    return inserts
