"""A small stock exchange as numbers: listings, one-minute bars of traded prices, a split, and renamed
instruments.

Prices and volumes only: how they become files, and what goes wrong on the way, belongs in `exchange`. Every
ISIN and name is invented. Prices are integers in thousandths of the currency unit, so that no rounding hides
between the model and a file's text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import polars as pl
from stdnum import isin as isin_number

PRICE_UNIT = 1000
AUCTION_LAG_MINUTES = np.array([0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5])

# fmt: off
_NAMES = (
    "ATLANTIS", "BRIGADOON", "CAMELOT", "DUNKELBERG", "ELDORADO", "FICTA", "GRAUFELS", "HALLODRI",
    "ISMARUS", "JOTUNHEIM", "KALTWASSER", "LEMURIA", "MUSTER", "ORPLID", "PHANTASIA", "QUIVIRA",
    "RUNGHOLT", "SCHILDA", "TRAUMLAND", "UTOPIA", "VINETA", "WOLKENHEIM", "XANADU", "ZEMBLA",
)
# fmt: on
_INDUSTRIES = (
    "WERKE",
    "CHEMIE",
    "BANK",
    "ENERGIE",
    "LOGISTIK",
    "MEDIEN",
    "PHARMA",
    "SYSTEME",
    "HANDEL",
    "OPTIK",
)
_SHARE_CLASSES = ("AG NA O.N.", "SE INH. EO 1", "INC.   DL-,001", "SA    EO -,01", "AG VZO O.N.")
_FUND_KINDS = {"ETF": "UCITS ETF", "ETC": "OPEN END ETC", "ETN": "ETN 2042", "Other": "GENUSSSCHEIN"}
_BASE_36 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Session(NamedTuple):
    """A trading day: its date, and its first and last moment of continuous trading in UTC."""

    session: date
    open_at: datetime
    close_at: datetime


@dataclass(frozen=True)
class Listing:
    """An instrument quoted in one currency. `activity` is the chance of a trade in a minute."""

    isin: str
    mnemonic: str
    description: str
    security_type: str
    currency: str
    security_id: int
    activity: float


@dataclass(frozen=True)
class Split:
    """From `ex_session` on, prices are divided and volumes multiplied by `factor`."""

    isin: str
    ex_session: date
    factor: int


@dataclass(frozen=True)
class Rename:
    """From `first_session` on, `field` (mnemonic or description) of `isin` in `currency` reads `new`."""

    isin: str
    currency: str
    field: str
    first_session: date
    old: str
    new: str


@dataclass(frozen=True)
class Market:
    """What was traded.

    `bars` has a row per bar, ordered by minute and listing: listing (index into `listings`), session, minute
    (minutes since 1970 UTC), open, high, low, close (thousandths), volume, trades. `closing_prices` is the
    model's price at the end of each session (rows) for each listing (columns), in currency units, whether or
    not it traded.
    """

    sessions: tuple[Session, ...]
    listings: tuple[Listing, ...]
    bars: pl.DataFrame
    closing_prices: np.ndarray
    splits: tuple[Split, ...]
    renames: tuple[Rename, ...]


def epoch_minute(moment: datetime) -> int:
    """Minutes since 1970-01-01 UTC of a timezone-aware moment."""
    return int(moment.timestamp()) // 60


def day_minute(day: date) -> int:
    """Minutes from 1970-01-01 UTC to the beginning of `day`, UTC."""
    return (day - date(1970, 1, 1)).days * 1440


def on_tick_grid(prices: np.ndarray) -> np.ndarray:
    """Prices in currency units rounded to the tick for their size, in thousandths, at least one."""
    ticks = np.array([1, 5, 10, 50])[np.searchsorted([10.0, 50.0, 100.0], prices, side="right")]
    return np.maximum(np.rint(prices * PRICE_UNIT / ticks) * ticks, 1).astype(np.int64)


def in_currency_units(prices: pl.Series) -> pl.Series:
    """Prices in thousandths as the floats that their decimals denote."""
    # Polars multiplies by the reciprocal of a constant: 240200 / 1000 would be 240.20000000000002.
    return pl.Series(prices.name, prices.to_numpy() / PRICE_UNIT)


def simulate_market(seed: int, sessions: Sequence[tuple[date, datetime, datetime]], instruments: int) -> Market:
    """Trade `instruments` instruments, from liquid to illiquid, over `sessions`.

    One instrument is also quoted in a second currency; where there are at least two sessions, one splits, one
    changes its mnemonic and one its description.

    Raises:
        ValueError: without a session or an instrument, or with sessions that are not in ascending order.
    """
    days = tuple(Session(*session) for session in sessions)
    if not days or instruments < 1:
        raise ValueError("An exchange needs at least one session and one instrument.")
    if any(before.session >= after.session for before, after in pairwise(days)):
        raise ValueError("Sessions must be in ascending order, each once.")
    rng = np.random.default_rng([seed, 0])
    listings = _listings(instruments)
    splits, renames = _events(listings, days, rng)
    bars, closing_prices = _trade(listings, days, splits, rng)
    return Market(days, listings, bars, closing_prices, splits, renames)


def _base_36(number: int) -> str:
    return _BASE_36[number // 1296 % 36] + _BASE_36[number // 36 % 36] + _BASE_36[number % 36]


def _listings(instruments: int) -> tuple[Listing, ...]:
    listings = []
    for index in range(instruments):
        kind = {3: "ETF", 6: "ETF", 7: "ETC", 13: "ETN", 19: "Other"}.get(index % 20, "Common stock")
        country = "DE" if index % 3 else ("US", "FR", "LU", "IE")[index // 3 % 4]
        number = f"{country}000SIM{_base_36(index)}"
        suffix = _FUND_KINDS.get(kind) or _SHARE_CLASSES[index % len(_SHARE_CLASSES)]
        industry = _INDUSTRIES[(index // len(_NAMES) + index) % len(_INDUSTRIES)]
        # A Zipf law, and a last fifth that finds no buyer on many days.
        activity = min(0.95, 3.0 / (index + 1)) * (0.05 if index >= instruments - instruments // 5 else 1.0)
        listings.append(
            Listing(
                isin=number + isin_number.calc_check_digit(number),
                mnemonic=f"S{_base_36(index)}",
                description=f"{_NAMES[index % len(_NAMES)]} {industry} {suffix}",
                security_type=kind,
                currency={10: "USD", 15: "CHF"}.get(index % 25, "EUR"),
                security_id=2_500_001 + index,
                activity=activity,
            )
        )
    twin = listings[4 % instruments]
    listings.append(
        Listing(
            isin=twin.isin,
            mnemonic=f"{twin.mnemonic}U",
            description=twin.description,
            security_type=twin.security_type,
            currency="USD",
            security_id=2_500_001 + instruments,
            activity=0.3 * twin.activity,
        )
    )
    return tuple(listings)


def _events(
    listings: tuple[Listing, ...], sessions: tuple[Session, ...], rng: np.random.Generator
) -> tuple[tuple[Split, ...], tuple[Rename, ...]]:
    if len(sessions) < 2:
        return (), ()
    split_on, ticker_on, name_on = (sessions[int(index)].session for index in rng.integers(1, len(sessions), 3))
    instruments = len(listings) - 1
    ticker, name = listings[2 % instruments], listings[3 % instruments]
    split = Split(listings[1 % instruments].isin, split_on, int(rng.integers(2, 6)))
    new_name = f"{name.description.split()[0]} HOLDING, DRITTE O.N."
    return (split,), (
        Rename(ticker.isin, ticker.currency, "mnemonic", ticker_on, ticker.mnemonic, f"N{ticker.mnemonic[1:]}"),
        Rename(name.isin, name.currency, "description", name_on, name.description, new_name),
    )


def _trade(
    listings: tuple[Listing, ...],
    sessions: tuple[Session, ...],
    splits: tuple[Split, ...],
    rng: np.random.Generator,
) -> tuple[pl.DataFrame, np.ndarray]:
    count = len(listings)
    activity = np.array([listing.activity for listing in listings])[:, None]
    volatility = rng.uniform(3e-4, 9e-4, count)[:, None]
    log_price = np.log(np.clip(rng.lognormal(3.5, 1.0, count), 1.5, 900.0))
    units = np.ones(count, dtype=np.int64)
    frames, closing_prices = [], []
    for session in sessions:
        for split in splits:
            if split.ex_session == session.session:
                factors = np.array([split.factor if listing.isin == split.isin else 1 for listing in listings])
                log_price -= np.log(factors)
                units *= factors
        first, length = (
            epoch_minute(session.open_at),
            epoch_minute(session.close_at) - epoch_minute(session.open_at),
        )
        # One column a minute of continuous trading, then the closing auction, which has a single price.
        steps = rng.normal(0.0, 1.0, (count, length + 1)) * volatility
        path = (log_price + rng.normal(0.0, 0.008, count))[:, None] + np.cumsum(steps, axis=1)
        path = np.concatenate([path, path[:, -1:]], axis=1)
        log_price = path[:, -1]
        closing_prices.append(np.exp(log_price))

        busy = 0.7 + 0.6 * np.linspace(-1.0, 1.0, length) ** 2  # more trades near the open and the close
        chance = np.minimum(activity * np.append(busy, 3.0), 0.98)
        listing, column = np.nonzero(rng.random(chance.shape) < chance)
        trades = 1 + rng.poisson(6.0 * chance[listing, column])
        start, end = path[listing, column], path[listing, column + 1]
        end = np.where(trades == 1, start, end)
        reach = np.abs(rng.normal(0.0, 0.5, (2, listing.size))) * volatility[listing, 0]
        reach *= (trades > 2) & (column < length)
        lag = np.where(column == length, rng.choice(AUCTION_LAG_MINUTES, count)[listing], 0)
        volume = np.maximum(trades, (trades * rng.lognormal(4.5, 0.9, trades.size)).astype(np.int64)) * units[listing]
        frames.append(
            pl.DataFrame(
                {
                    "listing": listing.astype(np.int64),
                    "minute": first + column + lag,
                    "open": on_tick_grid(np.exp(start)),
                    "high": on_tick_grid(np.exp(np.maximum(start, end) + reach[0])),
                    "low": on_tick_grid(np.exp(np.minimum(start, end) - reach[1])),
                    "close": on_tick_grid(np.exp(end)),
                    "volume": volume.astype(np.int64),
                    "trades": trades.astype(np.int64),
                }
            ).select("listing", pl.lit(session.session).alias("session"), pl.all().exclude("listing"))
        )
    return pl.concat(frames).sort("minute", "listing"), np.array(closing_prices)
