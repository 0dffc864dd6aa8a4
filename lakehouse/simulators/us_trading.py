"""A small US stock market as numbers: one-minute bars of an extended day, and the official daily bars before them.

Prices and volumes as traded, never adjusted; who is told what of them, and what is corrected later, belongs in
`us_market`. Prices are integers in 1/10,000 dollar, so that no rounding hides between the model and an answer's
text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from lakehouse.simulators.market_model import Session, epoch_minute

PRICE_UNIT = 10_000
NEW_YORK = ZoneInfo("America/New_York")

# fmt: off
_SYMBOLS = (
    "ATLN", "BRGD", "CMLT", "DUNK-B", "ELDO", "FCTA", "GRFL", "HLDR", "ISMR", "JOTN", "KLTW", "LMR", "MSTR-A", "ORPL",
    "PHNT", "QVRA", "RNGH", "SCHD-B", "TRML", "UTPA", "VNTA", "WLKN", "X", "ZMBL",
)
# fmt: on
_DAY_STARTS = 4 * 60  # 04:00, the first minute of pre-trading
_MINUTES = 16 * 60  # until 20:00
_REGULAR_END = 16 * 60
_PRE, _REGULAR, _POST = range(3)
_SEGMENTS = np.array(["pre", "regular", "post"])

BAR_SCHEMA = {
    "session": pl.Date,
    "minute": pl.Int64,
    "segment": pl.String,
    **dict.fromkeys(("open", "high", "low", "close", "volume"), pl.Int64),
}
"""A bar: `minute` is its start in minutes since 1970 UTC, `segment` pre, regular or post."""


@dataclass
class Trading:
    """What became of one symbol, on the basis of each day.

    `bars` has BAR_SCHEMA and is ordered by minute. `earlier` has the official daily bars of the sessions before the
    first one with minute bars: session, open, high, low, close, volume. `auctions` has for each later session how
    its official values differ from those of the minute bars: session, minute_share (of the official volume that is
    in the regular segment's bars), close_drift (relative, from the last regular close to the official close).
    `dividends` (dollars a share) and `splits` (coefficients) are by ex-date.
    """

    bars: pl.DataFrame
    earlier: pl.DataFrame
    auctions: pl.DataFrame
    dividends: dict[date, float]
    splits: dict[date, float]


def symbol_names(count: int) -> tuple[str, ...]:
    """Invented symbols, some with a share class behind a hyphen."""
    rounds = -(-count // len(_SYMBOLS))
    names = [name if turn == 0 else f"{name}{turn}" for turn in range(rounds) for name in _SYMBOLS]
    return tuple(names[:count])


def local_minute(session: date, clock: time) -> int:
    """The minute since 1970 UTC at which New York's clocks show `clock` on `session`."""
    return epoch_minute(datetime.combine(session, clock, NEW_YORK))


def trade(index: int, sessions: Sequence[Session], earlier: Sequence[date], seed: int) -> Trading:
    """What becomes of the symbol number `index`, without corporate actions.

    Even numbers trade in nearly every regular minute, the others in a part of them.

    Raises:
        ValueError: if a session isn't within 04:00 to 20:00 US/Eastern.
    """
    rng = np.random.default_rng([seed, index])
    liquid = index % 2 == 0
    volatility = rng.uniform(3e-4, 9e-4)
    first_price = float(np.clip(rng.lognormal(4.0, 0.8), 5.0, 900.0))
    size = rng.lognormal(8.0 if liquid else 6.0, 0.5)
    starts, segments, chance = _day_grids(sessions, 0.999 if liquid else rng.uniform(0.3, 0.9))

    steps = rng.normal(0.0, volatility, chance.shape) * np.where(segments == _REGULAR, 1.0, 0.3)
    steps[1:, 0] += rng.normal(0.0, 0.012, len(sessions) - 1)  # overnight
    path = np.log(first_price) + np.concatenate([[0.0], np.cumsum(steps)])
    row, column = np.nonzero(rng.random(chance.shape) < chance)
    step = row * _MINUTES + column
    # A session's first bar opens where its own night has led, not where the last session ended.
    start, end = np.where(column == 0, path[step + 1], path[step]), path[step + 1]
    reach = np.abs(rng.normal(0.0, 0.5 * volatility, (2, row.size))) * (rng.random(row.size) < 0.8)
    segment = segments[row, column]
    quiet = np.where(segment == _REGULAR, 1.0, 0.1)
    columns = {
        "session": pl.Series([session.session for session in sessions])[row],
        "minute": starts[row] + column,
        "segment": _SEGMENTS[segment],
        "open": _ticks(start),
        "high": _ticks(np.maximum(start, end) + reach[0]),
        "low": _ticks(np.minimum(start, end) - reach[1]),
        "close": _ticks(end),
        "volume": np.maximum(rng.lognormal(np.log(size), 0.9, row.size) * quiet, 1).astype(np.int64),
    }
    bars = pl.DataFrame(columns, schema=BAR_SCHEMA)
    if not liquid:
        bars = pl.concat([bars, _flat_bars(bars, sessions)]).sort("minute")
    auctions = pl.DataFrame(
        {
            "session": [session.session for session in sessions],
            "minute_share": rng.uniform(0.81, 0.94, len(sessions)),
            "close_drift": np.clip(rng.normal(0.0, 2e-4, len(sessions)), -5e-4, 5e-4),
        },
        schema={"session": pl.Date, "minute_share": pl.Float64, "close_drift": pl.Float64},
    )
    return Trading(bars, _earlier_days(earlier, first_price, size * 390, rng), auctions, {}, {})


def _day_grids(sessions: Sequence[Session], activity: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each session's 04:00 (minutes since 1970 UTC); each of its minutes' segment, and the chance of a trade in it."""
    starts = np.array([local_minute(session.session, time(4)) for session in sessions])
    clock = np.arange(_MINUTES)
    segments = np.empty((len(sessions), _MINUTES), dtype=np.int64)
    chance = np.empty(segments.shape)
    for row, session in enumerate(sessions):
        opens, closes = (epoch_minute(moment) - int(starts[row]) for moment in session[1:])
        if not 0 <= opens < closes <= _MINUTES:
            raise ValueError(
                f"The session {session.session} lasts from {session.open_at} to {session.close_at}, which is not "
                "within 04:00 to 20:00 US/Eastern: give the moments in UTC, with their time zone."
            )
        segments[row] = np.where(clock < opens, _PRE, np.where(clock < closes, _REGULAR, _POST))
        early = clock < opens
        chance[row] = activity * np.where(early, 0.3 * clock / max(opens, 1), 0.25)
        if is_half_day(session):
            # The print of the closing auction, and the hour of late trading that starts when it always does.
            late = _REGULAR_END - _DAY_STARTS
            silent = (clock > closes) & ~((clock >= late) & (clock < late + 60))
            chance[row, silent] = 0.0
        chance[row, opens:closes] = activity
    return starts, segments, chance


def is_half_day(session: Session) -> bool:
    """Whether regular trading ends before 16:00 US/Eastern."""
    return epoch_minute(session.close_at) < local_minute(session.session, time(16))


def _flat_bars(bars: pl.DataFrame, sessions: Sequence[Session]) -> pl.DataFrame:
    """Zero-volume bars at the last regular price, as the real vendor has them twice on a half-day's afternoon."""
    rows = []
    for session in sessions:
        regular = bars.filter(pl.col("session") == session.session, pl.col("segment") == "regular")
        if is_half_day(session) and regular.height:
            price = regular["close"][-1]
            minutes = {epoch_minute(session.close_at) + 10, local_minute(session.session, time(15, 30))}
            taken = set(bars.filter(pl.col("session") == session.session)["minute"])
            after_close = {minute for minute in minutes if minute >= epoch_minute(session.close_at)}
            rows += [(session.session, m, "post", price, price, price, price, 0) for m in sorted(after_close - taken)]
    return pl.DataFrame(rows, schema=BAR_SCHEMA, orient="row")


def _earlier_days(days: Sequence[date], last_price: float, volume: float, rng: np.random.Generator) -> pl.DataFrame:
    moves = rng.normal(0.0, 0.015, len(days))
    close = np.log(last_price) - np.cumsum(moves[::-1])[::-1]
    start = close - rng.normal(0.0, 0.008, len(days))
    reach = np.abs(rng.normal(0.0, 0.006, (2, len(days))))
    columns = {
        "session": list(days),
        "open": _ticks(start),
        "high": _ticks(np.maximum(start, close) + reach[0]),
        "low": _ticks(np.minimum(start, close) - reach[1]),
        "close": _ticks(close),
        "volume": (volume * rng.lognormal(0.0, 0.3, len(days))).astype(np.int64),
    }
    return pl.DataFrame(columns, schema={name: BAR_SCHEMA[name] for name in columns})


def _ticks(log_price: np.ndarray) -> np.ndarray:
    return np.maximum(np.rint(np.exp(log_price) * PRICE_UNIT), 1).astype(np.int64)
