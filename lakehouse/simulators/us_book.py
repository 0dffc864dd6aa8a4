"""What was traded on an invented US stock market, and what is corrected later.

The first prices are made in `us_trading`; what the vendor tells of all this, and when, belongs in `us_market`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time
from typing import Any

import numpy as np
import polars as pl

from lakehouse.simulators.market_model import Session, epoch_minute
from lakehouse.simulators.us_trading import BAR_SCHEMA, PRICE_UNIT, Trading, local_minute, symbol_names, trade

PRICES = ["open", "high", "low", "close"]
_SESSIONS_BETWEEN_DIVIDENDS = 63
_UTC = pl.Datetime("us", "UTC")


class MarketBook:
    """Bars, official daily bars and corporate actions of invented symbols, as traded.

    Every second symbol pays dividends; from five sessions on, the second symbol splits 4:1 and the fourth 1:10. The
    official open, high and low are those of the regular minute bars; the official close, of the closing auction, is
    within 0.05% of the last regular minute's; the minute bars hold 80 to 95% of the official volume.

    Args:
        sessions: (session, open_at, close_at) of each trading day, ascending, moments in UTC.
        seed: the same seed and arguments give the same market.
        symbols: how many.
        earlier_sessions: sessions before the first of `sessions`, ascending, that have daily bars only.

    Raises:
        ValueError: without a session or a symbol, with sessions out of order, or outside of 04:00 to 20:00 US/Eastern.
    """

    def __init__(
        self,
        sessions: Sequence[tuple[date, datetime, datetime]],
        seed: int = 1,
        symbols: int = 20,
        earlier_sessions: Sequence[date] = (),
    ) -> None:
        self.sessions = tuple(Session(*session) for session in sessions)
        self.symbols = symbol_names(symbols)
        days = [*earlier_sessions, *(session.session for session in self.sessions)]
        if not sessions or symbols < 1:
            raise ValueError("A market needs a session and a symbol: give at least one of each.")
        if sorted(set(days)) != days:
            raise ValueError("The sessions are out of order, or one comes twice: give them ascending.")
        self.trading = {
            symbol: trade(index, self.sessions, earlier_sessions, seed) for index, symbol in enumerate(self.symbols)
        }
        self._act(np.random.default_rng([seed, symbols]))

    def truth_bars(self) -> pl.DataFrame:
        """Every bar as traded, at present.

        Columns symbol, session, segment, start_at, end_at (UTC, microseconds), open, high, low, close (dollars),
        volume; ordered by symbol (in the order of `symbols`) and start_at.
        """
        return pl.concat(
            trading.bars.select(
                pl.lit(symbol).alias("symbol"),
                "session",
                "segment",
                (pl.col("minute") * 60_000_000).cast(_UTC).alias("start_at"),
                ((pl.col("minute") + 1) * 60_000_000).cast(_UTC).alias("end_at"),
                *_in_dollars(trading.bars),
                "volume",
            )
            for symbol, trading in self.trading.items()
        )

    def truth_daily(self) -> pl.DataFrame:
        """Every official daily bar as traded, at present.

        Columns symbol, session, open, high, low, close (dollars), volume, dividend (dollars a share), split
        (coefficient); ordered by symbol (in the order of `symbols`) and session.
        """
        frames = [(symbol, self.official(symbol)) for symbol in self.symbols]
        return pl.concat(
            daily.select(pl.lit(symbol).alias("symbol"), "session", *_in_dollars(daily), "volume", "dividend", "split")
            for symbol, daily in frames
        )

    def official(self, symbol: str) -> pl.DataFrame:
        """A symbol's official daily bars, oldest first.

        Columns session, open, high, low, close (1/10,000 dollar), volume, dividend (dollars), split (coefficient). A
        session without a traded regular bar has none.
        """
        trading = self.trading[symbol]
        last = pl.col("close").last() * (1 + pl.col("close_drift").first())
        later = (
            trading.bars.filter(pl.col("segment") == "regular", pl.col("volume") > 0)
            .join(trading.auctions, on="session", maintain_order="left")
            .group_by("session", maintain_order=True)
            .agg(
                pl.col("open").first(),
                pl.col("high").max(),
                pl.col("low").min(),
                last.round().cast(pl.Int64).clip(pl.col("low").min(), pl.col("high").max()).alias("close"),
                (pl.col("volume").sum() / pl.col("minute_share").first()).round().cast(pl.Int64),
            )
        )
        daily = pl.concat([trading.earlier, later])
        return daily.with_columns(
            dividend=pl.Series([trading.dividends.get(day, 0.0) for day in daily["session"]], dtype=pl.Float64),
            split=pl.Series([trading.splits.get(day, 1.0) for day in daily["session"]], dtype=pl.Float64),
        )

    def correct(
        self, symbol: str, session: date, starts: time, close: float | None = None, volume: int | None = None
    ) -> None:
        """Change a bar, named by its start in US/Eastern; high and low give way to the new close.

        Raises:
            ValueError: if there is no such bar.
        """
        trading, minute = self._bar(symbol, session, starts, present=True)
        bar = trading.bars.row(by_predicate=pl.col("minute") == minute, named=True)
        if close is not None:
            bar["close"] = _in_units(close)
            bar["high"], bar["low"] = max(bar["high"], bar["close"]), min(bar["low"], bar["close"])
        if volume is not None:
            bar["volume"] = volume
        _replace(trading, minute, bar)

    def add_bar(
        self,
        symbol: str,
        session: date,
        starts: time,
        *,
        open: float,
        high: float,
        low: float,
        close: float,
        volume: int,
    ) -> None:
        """Add a bar, named by its start in US/Eastern.

        Raises:
            ValueError: if there is one already, or no such session.
        """
        trading, minute = self._bar(symbol, session, starts, present=False)
        times = next(known for known in self.sessions if known.session == session)
        after_open = minute >= epoch_minute(times.open_at)
        segment = ("regular" if minute < epoch_minute(times.close_at) else "post") if after_open else "pre"
        prices = {name: _in_units(price) for name, price in zip(PRICES, (open, high, low, close), strict=True)}
        _replace(trading, minute, {"session": session, "minute": minute, "segment": segment, "volume": volume} | prices)

    def withdraw_bar(self, symbol: str, session: date, starts: time) -> None:
        """Remove a bar, named by its start in US/Eastern.

        Raises:
            ValueError: if there is no such bar.
        """
        trading, minute = self._bar(symbol, session, starts, present=True)
        _replace(trading, minute, None)

    def pay_dividend(self, symbol: str, ex_date: date, amount: float) -> None:
        """Pay `amount` dollars a share, on the basis of the ex-date; prices as traded stay as they are.

        Raises:
            ValueError: if the symbol pays one on that day already, or has no daily bar there.
        """
        trading = self._on_ex_date(symbol, ex_date)
        if ex_date in trading.dividends:
            raise ValueError(f"{symbol} pays a dividend on {ex_date} already: revise it with revise_dividend.")
        trading.dividends = trading.dividends | {ex_date: _as_printed(amount)}

    def revise_dividend(self, symbol: str, ex_date: date, amount: float) -> None:
        """Change a dividend's amount in dollars a share.

        Raises:
            ValueError: if there is none on that day.
        """
        trading = self._known(symbol)
        if ex_date not in trading.dividends:
            raise ValueError(f"{symbol} pays no dividend on {ex_date}: pay one with pay_dividend.")
        trading.dividends = trading.dividends | {ex_date: _as_printed(amount)}

    def split(self, symbol: str, ex_date: date, coefficient: float) -> None:
        """Turn a share into `coefficient` shares: from the ex-date on, prices as traded are lower and volumes higher.

        Raises:
            ValueError: if the symbol splits on that day already, or has no daily bar there.
        """
        trading = self._on_ex_date(symbol, ex_date)
        if ex_date in trading.splits:
            raise ValueError(f"{symbol} splits on {ex_date} already: take another day.")
        # Later dividends were amounts a share of the old kind.
        trading.dividends = {
            day: amount if day < ex_date else _as_printed(amount / coefficient)
            for day, amount in trading.dividends.items()
        }
        trading.splits = trading.splits | {ex_date: coefficient}
        trading.bars = _divided(trading.bars, ex_date, coefficient)
        trading.earlier = _divided(trading.earlier, ex_date, coefficient)

    def _act(self, rng: np.random.Generator) -> None:
        """Splits and dividends of the beginning."""
        days = [session.session for session in self.sessions]
        for index, coefficient in ((1, 4.0), (3, 0.1)) if len(days) >= 5 else ():
            if index < len(self.symbols):
                self.split(self.symbols[index], days[len(days) // 2 + index // 2], coefficient)
        for symbol in self.symbols[::2]:
            daily = self.official(symbol).select("session", "close").rows()
            first, rate = int(rng.integers(1, _SESSIONS_BETWEEN_DIVIDENDS)), rng.uniform(0.002, 0.015)
            for ex_date, close in daily[first::_SESSIONS_BETWEEN_DIVIDENDS]:
                self.pay_dividend(symbol, ex_date, max(round(close / PRICE_UNIT * rate, 2), 0.01))

    def _known(self, symbol: str) -> Trading:
        if symbol not in self.trading:
            raise ValueError(f"The market has no symbol {symbol}: take one of {', '.join(self.symbols)}.")
        return self.trading[symbol]

    def _bar(self, symbol: str, session: date, starts: time, present: bool) -> tuple[Trading, int]:
        trading = self._known(symbol)
        minute = local_minute(session, starts)
        if all(known.session != session for known in self.sessions):
            raise ValueError(f"The market has no minute bars on {session}: take one of its sessions.")
        if (minute in trading.bars["minute"]) != present:
            raise ValueError(
                f"{symbol} has {'no' if present else 'already a'} bar that starts on {session} at {starts} "
                "US/Eastern: take another minute."
            )
        return trading, minute

    def _on_ex_date(self, symbol: str, ex_date: date) -> Trading:
        trading = self._known(symbol)
        if ex_date not in self.official(symbol)["session"]:
            raise ValueError(f"{symbol} has no daily bar on {ex_date} to be ex of anything: take one of its sessions.")
        return trading


def _replace(trading: Trading, minute: int, bar: dict[str, Any] | None) -> None:
    added = [] if bar is None else [bar]
    others = trading.bars.filter(pl.col("minute") != minute)
    trading.bars = pl.concat([others, pl.DataFrame(added, schema=BAR_SCHEMA)]).sort("minute")


def _divided(frame: pl.DataFrame, ex_date: date, coefficient: float) -> pl.DataFrame:
    after, volume = pl.col("session") >= ex_date, pl.col("volume")
    # A bar that was traded stays one.
    shares = pl.when(volume > 0).then((volume * coefficient).round().cast(pl.Int64).clip(1)).otherwise(volume)
    return frame.with_columns(
        *(
            pl.when(after).then((pl.col(name) / coefficient).round().cast(pl.Int64).clip(1)).otherwise(name).alias(name)
            for name in PRICES
        ),
        pl.when(after).then(shares).otherwise(volume).alias("volume"),
    )


def _in_dollars(frame: pl.DataFrame) -> list[pl.Series]:
    # Polars multiplies by the reciprocal of a constant, numpy divides.
    return [pl.Series(name, frame[name].to_numpy() / PRICE_UNIT) for name in PRICES]


def _as_printed(amount: float) -> float:
    # Four decimals, as in the vendor's answers: an adjustment must follow from what they say.
    return round(amount, 4)


def _in_units(price: float) -> int:
    return round(price * PRICE_UNIT)
