"""A crypto exchange that publishes its one-minute klines as daily zip files, in the format of Binance's public bucket.

Its market and its files; reading them, and the dirt of other feeds, belongs elsewhere. Prices are kept in cents and
volumes in 1/100,000 coin, so that every amount is exact in the eight decimals of the files.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl

from lakehouse.simulators.bar_files import VendorObject, write_objects
from lakehouse.simulators.market_model import day_minute

HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)
MICROSECONDS_FROM = date(2025, 1, 1)
"""The first day whose times are in microseconds since 1970 instead of milliseconds."""
MINUTES_A_DAY = 1440
_CENT, _LOT = 100, 100_000
_FIRST_PRICES = {"BTC": 60_000.0, "ETH": 3_000.0}
_AMOUNTS = ("quote_volume", "taker_buy_quote_volume")


class CryptoExchange:
    """A feed of klines, day and night: `data/spot/daily/klines/<symbol>/1m/<symbol>-1m-<day>.zip`.

    Each holds one CSV without a header, 1,440 lines. Where nothing was traded, a line repeats the last close, its
    volumes zero.

    Args:
        symbols: base and quote currency in one, as the exchange writes them.
        days: ascending, UTC.
        seed: the same seed and arguments give the same bytes.
        header_from: the first day whose files have a header line.

    Raises:
        ValueError: without a day or a symbol, or with days out of order.
    """

    def __init__(
        self,
        symbols: Sequence[str] = ("BTCUSDT", "ETHUSDT", "BTCEUR"),
        *,
        days: Sequence[date],
        seed: int = 1,
        header_from: date | None = None,
    ) -> None:
        if not symbols or not days:
            raise ValueError("A feed needs a symbol and a day: give at least one of each.")
        if sorted(set(days)) != list(days):
            raise ValueError("The days are out of order, or one comes twice: give them ascending.")
        self.symbols, self.days = tuple(symbols), tuple(days)
        self._header_from = header_from
        self._klines = lru_cache(maxsize=None)(lambda symbol: _trade(symbol, self.days, [seed, *symbol.encode()]))

    def objects(self) -> Iterator[VendorObject]:
        """The files in the order of publication: a day's at 02:00 UTC of the next."""
        for day in self.days:
            published_at = datetime.combine(day + timedelta(days=1), time(2), UTC)
            for symbol in self.symbols:
                name = f"{symbol}-1m-{day}"
                lines = _lines(self._klines(symbol).filter(pl.col("day") == day), day)
                if self._header_from is not None and day >= self._header_from:
                    lines.insert(0, HEADER)
                body = _zipped(f"{name}.csv", "".join(f"{line}\n" for line in lines).encode())
                yield VendorObject(f"data/spot/daily/klines/{symbol}/1m/{name}.zip", body, published_at)

    def write(self, folder: Path) -> list[Path]:
        """Write the files below `folder`, each one's publication as its modification time.

        Raises:
            OSError: if the folder can't be written.
        """
        return write_objects(folder, self.objects())

    def truth(self) -> pl.DataFrame:
        """Every kline.

        Columns symbol, day, start_at, end_at (UTC, microseconds; the end is the next minute's start), open, high, low,
        close (quote currency), volume, taker_buy_volume (base currency), quote_volume, taker_buy_quote_volume (quote
        currency), trades; ordered by symbol (in the order of `symbols`) and start_at.
        """
        frames = []
        for symbol in self.symbols:
            klines = self._klines(symbol)
            scales = dict.fromkeys(("open", "high", "low", "close"), _CENT)
            scales |= dict.fromkeys(("volume", "taker_buy_volume"), _LOT) | dict.fromkeys(_AMOUNTS, _CENT * _LOT)
            frames.append(
                klines.select(
                    pl.lit(symbol).alias("symbol"),
                    "day",
                    *(
                        ((pl.col("minute") + ends) * 60_000_000).cast(pl.Datetime("us", "UTC")).alias(name)
                        for name, ends in (("start_at", 0), ("end_at", 1))
                    ),
                    *(pl.Series(name, klines[name].to_numpy() / scale) for name, scale in scales.items()),
                    "trades",
                )
            )
        return pl.concat(frames)


def _trade(symbol: str, days: Sequence[date], seed: Sequence[int]) -> pl.DataFrame:
    """Klines in cents, lots, and cents times lots: day, minute (since 1970 UTC), and the columns of `truth`."""
    log_price = float(np.log(_FIRST_PRICES.get(symbol[:3], 100.0)))
    frames = []
    for day in days:
        # Each day draws for itself: a feed that has grown tells its first days as before.
        rng = np.random.default_rng([*seed, day.toordinal()])
        klines, log_price = _trade_day(day, log_price, symbol.endswith("USDT"), rng)
        frames.append(klines)
    return pl.concat(frames)


def _trade_day(day: date, log_price: float, busy: bool, rng: np.random.Generator) -> tuple[pl.DataFrame, float]:
    """A day's klines from the price at its beginning, and the price at its end."""
    count = MINUTES_A_DAY
    steps = rng.normal(0.0, 5e-4, count)
    traded = rng.random(count) < (0.998 if busy else 0.9)
    # Nothing moves while nothing is traded.
    path = log_price + np.concatenate([[0.0], np.cumsum(np.where(traded, steps, 0.0))])
    reach = np.abs(rng.normal(0.0, 2e-4, (2, count))) * traded
    start, end = path[:-1], path[1:]
    lows, highs = _cents(np.minimum(start, end) - reach[1]), _cents(np.maximum(start, end) + reach[0])
    lots = np.maximum(rng.lognormal(14.0 if busy else 9.0, 1.0, count), 1).astype(np.int64) * traded
    taken = (lots * rng.uniform(0.2, 0.8, count)).astype(np.int64)
    # An average price within the bar, in whole cents: amounts are exact.
    average = lows + np.rint(rng.random(count) * (highs - lows)).astype(np.int64)
    klines = pl.DataFrame(
        {
            "day": pl.Series([day]).new_from_index(0, count),
            "minute": day_minute(day) + np.arange(count),
            "open": _cents(start),
            "high": highs,
            "low": lows,
            "close": _cents(end),
            "volume": lots,
            "quote_volume": lots * average,
            "trades": np.minimum(lots, 1 + rng.poisson(200.0 if busy else 5.0, count)) * traded,
            "taker_buy_volume": taken,
            "taker_buy_quote_volume": taken * average,
        }
    )
    return klines, float(path[-1])


def _cents(log_price: np.ndarray) -> np.ndarray:
    return np.rint(np.exp(log_price) * _CENT).astype(np.int64)


def _lines(klines: pl.DataFrame, day: date) -> list[str]:
    units = 60_000_000 if day >= MICROSECONDS_FROM else 60_000
    return (
        klines.select(
            pl.concat_str(
                pl.col("minute") * units,
                *(_eight_decimals(name, _CENT) for name in ("open", "high", "low", "close")),
                _eight_decimals("volume", _LOT),
                (pl.col("minute") + 1) * units - 1,
                _eight_decimals("quote_volume", _CENT * _LOT),
                "trades",
                _eight_decimals("taker_buy_volume", _LOT),
                _eight_decimals("taker_buy_quote_volume", _CENT * _LOT),
                pl.lit("0"),
                separator=",",
            )
        )
        .to_series()
        .to_list()
    )


def _eight_decimals(name: str, scale: int) -> pl.Expr:
    fraction = (pl.col(name) % scale) * (100_000_000 // scale)
    return pl.format("{}.{}", pl.col(name) // scale, fraction.cast(pl.String).str.zfill(8))


def _zipped(name: str, body: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        # A fixed moment: the same lines give the same bytes.
        zipped.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), body, zipfile.ZIP_DEFLATED)
    return archive.getvalue()
