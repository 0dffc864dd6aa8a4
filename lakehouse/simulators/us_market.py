"""An invented US stock market as a vendor tells it: at its time, adjusted or as traded, line by line.

What was traded belongs in `us_book`, HTTP and wording in `vendor_api` and `vendor_answers`.
"""

from __future__ import annotations

from datetime import datetime, time

import numpy as np
import polars as pl

from lakehouse.simulators.market_model import epoch_minute
from lakehouse.simulators.us_book import PRICES, MarketBook
from lakehouse.simulators.us_trading import PRICE_UNIT, local_minute
from lakehouse.simulators.vendor_answers import DAILY_HEADER, INTRADAY_HEADER


class UsMarket(MarketBook):
    """A vendor's content for `vendor_api.VendorApi`; see `us_book.MarketBook` for its arguments.

    A bar is told once the vendor's clock has passed its end, a daily bar once its session has closed, and a corporate
    action with the daily bar of its ex-date. Adjusted prices are multiplied by the factors of the actions told whose
    ex-date is later: 1 / coefficient for a split, C / (C + D) for a dividend D with C the official close of the
    ex-date; volumes by the coefficients. The rest is as traded, and so are the official open, high, low and close.
    """

    line_end = "\r\n"

    def intraday(self, symbol: str, month: str, adjusted: bool, extended: bool, now: datetime) -> list[str] | None:
        """See `vendor_answers.Content`."""
        if symbol not in self.trading:
            return None
        bars = self.trading[symbol].bars.filter(
            pl.col("session").dt.strftime("%Y-%m") == month,
            pl.col("minute") < epoch_minute(now),
            pl.lit(extended) | (pl.col("segment") == "regular"),
        )
        if bars.is_empty():
            return [INTRADAY_HEADER]
        if adjusted:
            bars = _adjusted(bars, self._told_daily(symbol, now))
        # A session's offset from UTC is one: clocks change on Sundays, before 04:00.
        midnights = {day: local_minute(day, time()) for day in bars["session"].unique()}
        clock = pl.col("minute") - pl.col("session").replace_strict(midnights, return_dtype=pl.Int64)
        lines = bars.reverse().select(
            pl.format(
                "{} {}:{}:00,{},{},{},{},{}",
                pl.col("session").dt.strftime("%Y-%m-%d"),
                (clock // 60).cast(pl.String).str.zfill(2),
                (clock % 60).cast(pl.String).str.zfill(2),
                *(_text(name) for name in PRICES),
                "volume",
            )
        )
        return [INTRADAY_HEADER, *lines.to_series().to_list()]

    def daily(self, symbol: str, now: datetime) -> list[str] | None:
        """See `vendor_answers.Content`."""
        if symbol not in self.trading:
            return None
        daily = self._told_daily(symbol, now)
        adjusted = daily["close"].to_numpy() / PRICE_UNIT * _later_factors(daily)[0][1:]
        lines = daily.select(
            pl.format(
                "{},{},{},{},{},{},{},{},{}",
                pl.col("session").dt.strftime("%Y-%m-%d"),
                *(_text(name) for name in PRICES),
                pl.Series([f"{close:.12g}" for close in adjusted], dtype=pl.String),
                "volume",
                pl.Series([f"{amount:.4f}" for amount in daily["dividend"]], dtype=pl.String),
                pl.Series([str(coefficient) for coefficient in daily["split"]], dtype=pl.String),
            )
        )
        return [DAILY_HEADER, *lines.to_series().reverse().to_list()]

    def _told_daily(self, symbol: str, now: datetime) -> pl.DataFrame:
        untold = [session.session for session in self.sessions if session.close_at > now]
        return self.official(symbol).filter(~pl.col("session").is_in(untold))


def _later_factors(daily: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """For prices and for volumes: item k is the product of the factors of the actions on row k of `daily` and later."""
    close = daily["close"].to_numpy() / PRICE_UNIT
    price_factors = close / (close + daily["dividend"].to_numpy()) / daily["split"].to_numpy()
    factors = (np.append(price_factors, 1.0), np.append(daily["split"].to_numpy(), 1.0))
    return factors[0][::-1].cumprod()[::-1], factors[1][::-1].cumprod()[::-1]


def _adjusted(bars: pl.DataFrame, daily: pl.DataFrame) -> pl.DataFrame:
    prices, volumes = _later_factors(daily)
    later = np.searchsorted(daily["session"].to_numpy(), bars["session"].to_numpy(), side="right")
    return bars.with_columns(
        *(pl.Series(name, np.rint(bars[name].to_numpy() * prices[later]).astype(np.int64)) for name in PRICES),
        volume=pl.Series(np.rint(bars["volume"].to_numpy() * volumes[later]).astype(np.int64)),
    )


def _text(name: str) -> pl.Expr:
    """Prices in 1/10,000 dollar as dollars with four decimals."""
    price = pl.col(name)
    return pl.format("{}.{}", price // PRICE_UNIT, (price % PRICE_UNIT).cast(pl.String).str.zfill(4))
