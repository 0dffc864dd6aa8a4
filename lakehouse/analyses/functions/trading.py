"""Tasks that turn prices and signals into returns, positions and an equity curve."""

from __future__ import annotations

import polars as pl

from lakehouse.analyses.functions import checks
from lakehouse.analyses.functions.indicators import beside, derived
from lakehouse.analyses.registry import Tasks

TASKS = Tasks()
_VALUE = pl.col("value")


@TASKS.task("returns.simple")
def simple_returns(series: pl.DataFrame) -> pl.DataFrame:
    """Returns of each row against the one before; the first is NULL."""
    return derived(series, _VALUE / _VALUE.shift(1) - 1)


@TASKS.task("returns.log")
def log_returns(series: pl.DataFrame) -> pl.DataFrame:
    """Logarithmic returns; the first is NULL."""
    return derived(series, (_VALUE / _VALUE.shift(1)).log())


@TASKS.task("returns.volatility", checks={"window": checks.window, "periods": checks.window})
def volatility(returns: pl.DataFrame, *, window: int = 21, periods: int = 252) -> pl.DataFrame:
    """Annualized sample deviation of the last returns."""
    return derived(returns, _VALUE.rolling_std(window, ddof=1) * periods**0.5)


@TASKS.task("returns.beta", checks={"window": checks.window})
def beta(returns: pl.DataFrame, market: pl.DataFrame, *, window: int = 60) -> pl.DataFrame:
    """Rolling beta: the returns' covariance with the market's, by the market's variance."""
    both = beside(own=returns, market=market)
    own, other = pl.col("own"), pl.col("market")
    return derived(both, pl.rolling_cov(own, other, window_size=window, ddof=1) / other.rolling_var(window, ddof=1))


@TASKS.task("trade.long_short")
def long_short(signal: pl.DataFrame) -> pl.DataFrame:
    """Positions that are the signal's sign: long, short, or none where there is no signal."""
    return derived(signal, _VALUE.fill_null(0).sign().cast(pl.Float64))


@TASKS.task("trade.long_flat")
def long_flat(signal: pl.DataFrame) -> pl.DataFrame:
    """Positions that are long where the signal is positive, and none otherwise."""
    return derived(signal, (_VALUE.fill_null(0) > 0).cast(pl.Float64))


@TASKS.task("trade.buy_and_hold")
def buy_and_hold(signal: pl.DataFrame) -> pl.DataFrame:
    """Positions that are long throughout."""
    return derived(signal, pl.lit(1.0).repeat_by(pl.len()).explode())


@TASKS.task("trade.equity", checks={"cost": checks.number})
def equity(prices: pl.DataFrame, positions: pl.DataFrame, *, cost: float = 0.0) -> pl.DataFrame:
    """Equity of 1 invested: compounded returns of the positions, less `cost` for each change of a position by 1.

    A position holds over the return that ends on its row; so it must follow from rows before it (see `ta.crossover`).
    """
    both = beside(price=prices, position=positions)
    result = (pl.col("price") / pl.col("price").shift(1) - 1).fill_null(0.0)
    traded = pl.col("position").diff().fill_null(pl.col("position")).abs()
    return derived(both, (1 + pl.col("position") * result - cost * traded).cum_prod())


@TASKS.task("trade.total_return")
def total_return(equity: pl.DataFrame) -> float:
    """The equity's last value less 1."""
    return float(equity["value"][-1]) - 1


@TASKS.task("trade.drawdown")
def drawdown(equity: pl.DataFrame) -> pl.DataFrame:
    """The equity against its highest value so far, at least the 1 invested: 0 or below."""
    return derived(equity, _VALUE / pl.max_horizontal(_VALUE.cum_max(), pl.lit(1.0)) - 1)
