"""Tasks of technical analysis, on series over the same dates. What the averages are is in `averages`."""

from __future__ import annotations

import polars as pl

from lakehouse.analyses.functions import averages, checks
from lakehouse.analyses.registry import Tasks

TASKS = Tasks()
_VALUE = pl.col("value")


def derived(series: pl.DataFrame, value: pl.Expr) -> pl.DataFrame:
    """A series over the same dates."""
    return series.select("date", value.alias("value"))


def beside(**series: pl.DataFrame) -> pl.DataFrame:
    """Series over the same dates as columns of one frame.

    Raises:
        ValueError: the dates differ.
    """
    first, *others = series.values()
    if any(not first["date"].equals(other["date"]) for other in others):
        raise ValueError(f"{', '.join(series)} have different dates; cut them to the same ones")
    return pl.DataFrame({"date": first["date"]} | {name: each["value"] for name, each in series.items()})


@TASKS.task("ta.sma", checks={"window": checks.window})
def sma(series: pl.DataFrame, *, window: int) -> pl.DataFrame:
    """Simple moving average."""
    return derived(series, averages.simple(_VALUE, window))


@TASKS.task("ta.ema_seeded", checks={"window": checks.window})
def ema_seeded(series: pl.DataFrame, *, window: int) -> pl.DataFrame:
    """Exponential moving average that begins with the simple one of the first window."""
    return derived(series, averages.exponential_seeded(_VALUE, window))


@TASKS.task("ta.ema_from_first", checks={"window": checks.window})
def ema_from_first(series: pl.DataFrame, *, window: int) -> pl.DataFrame:
    """Exponential moving average that begins with the first value."""
    return derived(series, averages.exponential_from_first(_VALUE, window))


@TASKS.task("ta.macd_seeded", checks={"fast": checks.window, "slow": checks.window, "signal": checks.window})
def macd_seeded(
    series: pl.DataFrame, *, fast: int = 12, slow: int = 26, signal: int = 9
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """MACD, its signal and their difference, of seeded averages that begin on the same day; from the signal's first."""
    if fast >= slow:
        raise ValueError(f"fast={fast} is not less than slow={slow}; exchange them")
    quick = averages.exponential_seeded(_VALUE, fast, skip=slow - fast)
    line = derived(series, quick - averages.exponential_seeded(_VALUE, slow))
    average = derived(line, averages.exponential_seeded(_VALUE, signal))
    begun = beside(line=line, signal=average).with_columns(
        line=pl.when(pl.col("signal").is_not_null()).then(pl.col("line"))
    )
    line = derived(begun, pl.col("line"))
    return line, average, derived(begun, pl.col("line") - pl.col("signal"))


@TASKS.task("ta.macd_from_first", checks={"fast": checks.window, "slow": checks.window, "signal": checks.window})
def macd_from_first(
    series: pl.DataFrame, *, fast: int = 12, slow: int = 26, signal: int = 9
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """MACD, its signal and their difference, of averages that begin with the first value."""
    quick, calm = (averages.exponential_from_first(_VALUE, window) for window in (fast, slow))
    line = derived(series, quick - calm)
    average = derived(line, averages.exponential_from_first(_VALUE, signal))
    both = beside(line=line, signal=average)
    return line, average, derived(both, pl.col("line") - pl.col("signal"))


@TASKS.task("ta.bollinger_population", checks={"window": checks.window, "width": checks.number})
def bollinger_population(
    series: pl.DataFrame, *, window: int = 20, width: float = 2.0
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Bollinger bands, upper, middle and lower, by the population's deviation."""
    return _bollinger(series, window, width, ddof=0)


@TASKS.task("ta.bollinger_sample", checks={"window": checks.window, "width": checks.number})
def bollinger_sample(
    series: pl.DataFrame, *, window: int = 20, width: float = 2.0
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Bollinger bands, upper, middle and lower, by the sample's deviation."""
    return _bollinger(series, window, width, ddof=1)


def _bollinger(
    series: pl.DataFrame, window: int, width: float, ddof: int
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    middle, deviation = averages.simple(_VALUE, window), _VALUE.rolling_std(window, ddof=ddof)
    upper, lower = middle + width * deviation, middle - width * deviation
    return derived(series, upper), derived(series, middle), derived(series, lower)


@TASKS.task("ta.stochastic", checks={"window": checks.window, "smooth": checks.window, "signal": checks.window})
def stochastic(
    high: pl.DataFrame, low: pl.DataFrame, close: pl.DataFrame, *, window: int = 14, smooth: int = 3, signal: int = 3
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Slow stochastic oscillator, %K and %D: the close's place between low and high, smoothed by simple averages."""
    prices = beside(high=high, low=low, close=close)
    lowest, highest = pl.col("low").rolling_min(window), pl.col("high").rolling_max(window)
    place = pl.when(highest > lowest).then(100 * (pl.col("close") - lowest) / (highest - lowest))
    fast = derived(prices, pl.when(highest == lowest).then(0.0).otherwise(place))
    slow = derived(fast, averages.simple(_VALUE, smooth))
    return slow, derived(slow, averages.simple(_VALUE, signal))


@TASKS.task("ta.roc", checks={"window": checks.window})
def roc(series: pl.DataFrame, *, window: int = 10) -> pl.DataFrame:
    """Rate of change in percent."""
    return derived(series, 100 * (_VALUE / _VALUE.shift(window) - 1))


@TASKS.task("ta.rsi_wilder", checks={"window": checks.window})
def rsi_wilder(series: pl.DataFrame, *, window: int = 14) -> pl.DataFrame:
    """Relative strength index by Wilder's smoothing."""
    change = _VALUE.diff()
    up, down = change.clip(lower_bound=0), (-change).clip(lower_bound=0)
    smoothed = [averages.seeded(each, window, 1 / window) for each in (up, down)]
    return derived(series, _share(*smoothed))


@TASKS.task("ta.rsi_simple", checks={"window": checks.window})
def rsi_simple(series: pl.DataFrame, *, window: int = 14) -> pl.DataFrame:
    """Relative strength index by simple averages."""
    change = _VALUE.diff()
    up, down = change.clip(lower_bound=0), (-change).clip(lower_bound=0)
    return derived(series, _share(up.rolling_sum(window), down.rolling_sum(window)))


@TASKS.task("ta.mfi", checks={"window": checks.window})
def mfi(
    high: pl.DataFrame, low: pl.DataFrame, close: pl.DataFrame, volume: pl.DataFrame, *, window: int = 14
) -> pl.DataFrame:
    """Money flow index: the share of the flow on days whose typical price rose."""
    prices = beside(high=high, low=low, close=close, volume=volume)
    typical = (pl.col("high") + pl.col("low") + pl.col("close")) / 3
    flow, change = typical * pl.col("volume"), typical.diff()
    up = pl.when(change > 0).then(flow).when(change.is_not_null()).then(0.0)
    down = pl.when(change < 0).then(flow).when(change.is_not_null()).then(0.0)
    return derived(prices, _share(up.rolling_sum(window), down.rolling_sum(window)))


def _share(up: pl.Expr, down: pl.Expr) -> pl.Expr:
    """The share of `up` in both, in percent; 0 where there is neither."""
    return pl.when(up + down == 0).then(0.0).otherwise(100 * up / (up + down))


@TASKS.task("ta.crossover", checks={"lag": checks.lag})
def crossover(short: pl.DataFrame, long: pl.DataFrame, *, lag: int = 1) -> pl.DataFrame:
    """The sign of short - long, `lag` rows later: 1, 0 or -1. A lag of 1 is the first that can be traded."""
    both = beside(short=short, long=long)
    return derived(both, averages.sign_of_difference(pl.col("short"), pl.col("long")).shift(lag))
