"""The functions that come with Lakehouse, against TA-Lib and against plain loops."""

from __future__ import annotations

import math
import random
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
import talib

from lakehouse.analyses.functions import charts, indicators, series, trading

COUNT = 300
DATES = [date(2020, 1, 1) + timedelta(days=day) for day in range(COUNT)]


def drawn(seed: int) -> dict[str, pl.DataFrame]:
    """Invented prices and volumes as series."""
    draw = random.Random(seed)
    closes, rows = 50.0, []
    for _ in range(COUNT):
        closes *= 1 + draw.gauss(0, 0.02)
        rows.append(
            (closes * 1.01 + draw.random(), closes * 0.99 - draw.random(), closes, draw.randint(100, 999) * 1.0)
        )
    columns = zip(*rows, strict=True)
    return {
        name: pl.DataFrame({"date": DATES, "value": list(values)})
        for name, values in zip(("high", "low", "close", "volume"), columns, strict=True)
    }


MARKET = drawn(1)
CLOSE = MARKET["close"]


def numbers(frame: pl.DataFrame) -> np.ndarray:
    return np.array([math.nan if value is None else value for value in frame["value"].to_list()])


def of_talib(name: str, *inputs: str, **options: Any) -> Any:
    return getattr(talib, name)(*(numbers(MARKET[each]) for each in inputs), **options)


def same(ours: pl.DataFrame, theirs: np.ndarray) -> None:
    assert ours["date"].to_list() == DATES
    np.testing.assert_allclose(numbers(ours), theirs, rtol=1e-9, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("window", [2, 14, 50])
def test_averages_and_momentum__are_talibs(window: int) -> None:
    same(indicators.sma(CLOSE, window=window), of_talib("SMA", "close", timeperiod=window))
    same(indicators.ema_seeded(CLOSE, window=window), of_talib("EMA", "close", timeperiod=window))
    same(indicators.roc(CLOSE, window=window), of_talib("ROC", "close", timeperiod=window))
    same(indicators.rsi_wilder(CLOSE, window=window), of_talib("RSI", "close", timeperiod=window))
    flow = ("high", "low", "close", "volume")
    same(indicators.mfi(*(MARKET[name] for name in flow), window=window), of_talib("MFI", *flow, timeperiod=window))


def test_macd_bollinger_and_stochastic__are_talibs() -> None:
    for ours, theirs in zip(indicators.macd_seeded(CLOSE), of_talib("MACD", "close"), strict=True):
        same(ours, theirs)
    bands = of_talib("BBANDS", "close", timeperiod=20, nbdevup=2, nbdevdn=2)
    for ours, theirs in zip(indicators.bollinger_population(CLOSE), bands, strict=True):
        same(ours, theirs)
    three = ("high", "low", "close")
    slow = of_talib("STOCH", *three, fastk_period=14, slowk_period=3, slowd_period=3)
    found = indicators.stochastic(*(MARKET[name] for name in three))
    # TA-Lib begins both lines where the second has its first value.
    for ours, theirs in zip(found, slow, strict=True):
        np.testing.assert_allclose(numbers(ours)[17:], theirs[17:], rtol=1e-9)


def test_variants__differ_as_their_names_say() -> None:
    values = CLOSE["value"].to_list()
    upper, middle, lower = indicators.bollinger_sample(CLOSE, window=5, width=1.0)
    last = values[-5:]
    mean = sum(last) / 5
    deviation = math.sqrt(sum((value - mean) ** 2 for value in last) / 4)
    assert [each["value"][-1] for each in (upper, middle, lower)] == pytest.approx(
        [mean + deviation, mean, mean - deviation]
    )
    average = values[0]
    for value in values[1:]:
        average += 2 / 11 * (value - average)
    first = indicators.ema_from_first(CLOSE, window=10)
    assert first["value"][0] == values[0]
    assert first["value"][-1] == pytest.approx(average)
    changes = [now - before for before, now in zip(values[-11:-1], values[-10:], strict=True)]
    up = sum(change for change in changes if change > 0)
    wanted = 100 * up / sum(map(abs, changes))
    assert indicators.rsi_simple(CLOSE, window=10)["value"][-1] == pytest.approx(wanted)
    line, signal, rest = indicators.macd_from_first(CLOSE)
    assert line["value"][0] == signal["value"][0] == rest["value"][0] == 0
    assert rest["value"][-1] == line["value"][-1] - signal["value"][-1]
    with pytest.raises(ValueError, match="fast=26 is not less than slow=12"):
        indicators.macd_seeded(CLOSE, fast=26, slow=12)


def of(*values: float | None) -> pl.DataFrame:
    return pl.DataFrame({"date": DATES[: len(values)], "value": values}, schema={"date": pl.Date, "value": pl.Float64})


def test_crossover__is_the_lagged_sign_and_equal_averages_are_zero() -> None:
    long = of(None, 100.0, 100.0, 100.0, 100.0)
    short = of(99.0, 100.0 + 9e-8, 100.0 - 2e-7, 101.0, 99.0)
    assert indicators.crossover(short, long)["value"].to_list() == [None, None, 0, -1, 1]
    assert indicators.crossover(short, long, lag=0)["value"].to_list() == [None, 0, -1, 1, -1]
    with pytest.raises(ValueError, match="have different dates"):
        indicators.crossover(short.head(3), long)


def test_equity__compounds_positions_and_charges_each_change() -> None:
    prices, signal = of(100.0, 110.0, 99.0, 99.0), of(None, 1.0, -1.0, 0.0)
    both, flat, held = (make(signal) for make in (trading.long_short, trading.long_flat, trading.buy_and_hold))
    assert [each["value"].to_list() for each in (both, flat, held)] == [[0, 1, -1, 0], [0, 1, 0, 0], [1, 1, 1, 1]]
    equity = trading.equity(prices, both)
    assert equity["value"].to_list() == pytest.approx([1, 1.1, 1.21, 1.21])
    assert trading.total_return(equity) == pytest.approx(0.21)
    charged = trading.equity(prices, both, cost=0.01)
    assert charged["value"].to_list() == pytest.approx([1, 1.09, 1.09 * 1.08, 1.09 * 1.08 * 0.99])
    assert trading.drawdown(of(0.9, 1.2, 0.6))["value"].to_list() == pytest.approx([-0.1, 0, -0.5])


def test_returns_volatility_and_beta__are_those_of_plain_loops() -> None:
    returns = trading.simple_returns(CLOSE)
    values = CLOSE["value"].to_list()
    assert returns["value"][0] is None
    assert returns["value"][-1] == pytest.approx(values[-1] / values[-2] - 1)
    assert trading.log_returns(CLOSE)["value"][-1] == pytest.approx(math.log(values[-1] / values[-2]))
    last = np.array(returns["value"].to_list()[-21:])
    assert trading.volatility(returns)["value"][-1] == pytest.approx(last.std(ddof=1) * math.sqrt(252))
    market = trading.simple_returns(drawn(2)["close"])
    pair = np.cov(np.array(returns["value"].to_list()[-60:]), np.array(market["value"].to_list()[-60:]))
    assert trading.beta(returns, market)["value"][-1] == pytest.approx(pair[0, 1] / pair[1, 1])
    assert trading.beta(market, market)["value"][-1] == pytest.approx(1)
    assert trading.beta(returns, market)["value"][:60].null_count() == 60


def test_series__are_read_masked_and_cut() -> None:
    data = pl.DataFrame({"day": [str(day) for day in DATES], "close": CLOSE["value"]})
    dates = series.to_datetime(data, "day")
    price = series.get_column(data, dates, "close")
    assert price.equals(CLOSE)
    mask = series.date_mask(dates, "2020-01-02", date(2020, 1, 4))
    assert mask.sum() == 3
    assert series.apply_mask(dates, mask).to_list() == DATES[1:4]
    cut, values = series.between(dates, price, "2020-01-02", "2020-01-04")
    assert cut.to_list() == values["date"].to_list() == DATES[1:4]
    for wrong, problem in (
        (("2020-01-04", "2020-01-02"), "is after end"),
        (("1990-01-01", "1990-02-01"), "no date is from 1990-01-01"),
        (("2020-13-01", "2020-01-02"), "is no date; write it as"),
    ):
        with pytest.raises(ValueError, match=problem):
            series.between(dates, price, *wrong)
    with pytest.raises(ValueError, match="no column 'open'"):
        series.get_column(data, dates, "open")


def test_chart__needs_a_label_for_each_series() -> None:
    chart = charts.lines(CLOSE, CLOSE, title="two", labels=["a", "b"], below=["b"])
    assert [(line.label, line.panel) for line in chart.lines] == [("a", 0), ("b", 1)]
    with pytest.raises(ValueError, match="2 series and 1 labels"):
        charts.lines(CLOSE, CLOSE, title="two", labels=["a"])
    with pytest.raises(ValueError, match="no series to draw"):
        charts.lines(title="none")
