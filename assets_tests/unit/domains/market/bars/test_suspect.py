"""Which bars are suspect: the filter held against plain Python, and the spikes and shifts that it has to tell apart."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.domains.market.bars.suspect import suspect_bars
from lakehouse.lake.engine import connect

SESSION = date(2020, 11, 13)
OPEN_AT = datetime(2020, 11, 13, 14, 30, tzinfo=UTC)
SCHEMA = {
    "instrument_id": pl.String,
    "symbol": pl.String,
    "currency": pl.String,
    "session": pl.Date,
    "start_at": pl.Datetime("us", "UTC"),
    "segment": pl.String,
    **dict.fromkeys(("open", "high", "low", "close"), pl.Float64),
    "volume": pl.Int64,
    "is_traded": pl.Boolean,
}

Bar = dict[str, Any]
Found = dict[tuple[str, datetime], tuple[str, float, float]]
"""Instrument and start of a suspect bar: the price that is off, its value, the level."""


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return connect("")


def bar(minute: int, *prices: float, instrument: str = "NIO", segment: str = "regular", volume: int = 100) -> Bar:
    """A bar of the given open, high, low and close, or of one price."""
    open_, high, low, close = prices if len(prices) == 4 else prices * 4
    return {
        "instrument_id": instrument, "symbol": instrument, "currency": "USD", "session": SESSION,
        "start_at": OPEN_AT + timedelta(minutes=minute), "segment": segment,
        "open": open_, "high": high, "low": low, "close": close, "volume": volume, "is_traded": volume > 0,
    }  # fmt: skip


def suspects(connection: duckdb.DuckDBPyConnection, bars: list[Bar]) -> Found:
    connection.register("bars", pl.DataFrame(bars, schema=SCHEMA))
    rows = connection.execute(suspect_bars("bars")).pl().to_dicts()
    for row in rows:
        assert math.isclose(row["deviation_pct"], (row["value"] / row["level"] - 1) * 100, abs_tol=0.006)
        assert (row["symbol"], row["currency"], row["session"]) == (row["instrument_id"], "USD", SESSION)
    found = {(row["instrument_id"], row["start_at"]): (row["price"], row["value"], row["level"]) for row in rows}
    assert len(found) == len(rows)
    return found


def walk(
    random: Random, count: int, *, price: float, tick: float, moves: tuple[int, ...], every: tuple[int, ...]
) -> list[Bar]:
    """A random walk of bars on a grid of ticks, `every` so many minutes."""
    bars, minute, level = [], 0, round(price / tick)
    for _ in range(count):
        open_, close = level + random.choice(moves), level + random.choice(moves)
        high, low = max(open_, close) + abs(random.choice(moves)), min(open_, close) - abs(random.choice(moves))
        low = max(low, 1)
        bars.append(bar(minute, *(max(ticks, low) * tick for ticks in (open_, high, low, close))))
        level, minute = max(close, 2), minute + random.choice(every)
    return bars


KINDS: dict[str, dict[str, Any]] = {
    "liquid": {"count": 390, "price": 43.7, "tick": 0.01, "moves": (-9, -4, -1, 0, 1, 4, 9), "every": (1,)},
    "illiquid": {"count": 25, "price": 95.0, "tick": 0.01, "moves": (-30, 0, 0, 0, 0, 30), "every": (1, 7, 40)},
    "penny": {"count": 60, "price": 0.003, "tick": 0.001, "moves": (-1, 0, 0, 0, 0, 0, 1), "every": (1, 3)},
}


def usual_move(bars: list[Bar]) -> float:
    """The largest of the moves from bar to bar but for the tenth that is largest."""
    pairs = zip(bars[1:], bars, strict=False)
    moves = sorted(max(one["high"], last["close"]) - min(one["low"], last["close"]) for one, last in pairs)
    return moves[int(len(moves) * 0.9)]


# No penny share's low: a price of three ticks can't fall by many.
SPIKES = sorted((kind, off) for kind in KINDS for off in ("high", "low", "close") if (kind, off) != ("penny", "low"))


@given(seed=st.integers(0, 2**32), spike=st.sampled_from(SPIKES))
def test_a_spike_of_one_bar_is_found_and_nothing_else(
    connection: duckdb.DuckDBPyConnection, seed: int, spike: tuple[str, str]
) -> None:
    random, (kind, off) = Random(seed), spike
    bars = walk(random, **KINDS[kind])
    assert suspects(connection, bars) == {}
    spiked = bars[random.randrange(1, len(bars) - 1)]
    size = 8 * usual_move(bars) + max(6 * KINDS[kind]["tick"], spiked["high"] * 0.03)
    if off == "low":
        spiked["low"] -= size
    else:
        spiked["high"] += size
        spiked[off] = spiked["high"]
    (found,) = suspects(connection, bars).items()
    assert found[0] == ("NIO", spiked["start_at"])
    assert found[1][:2] == (off, spiked[off])


@given(
    seed=st.integers(0, 2**32), factor=st.sampled_from((0.2, 0.9, 0.97, 1.03, 1.1, 5.0)), gap=st.sampled_from((0, 60))
)
def test_a_lasting_shift_is_no_spike(connection: duckdb.DuckDBPyConnection, seed: int, factor: float, gap: int) -> None:
    """News, and a halt with another price when trading resumes."""
    random = Random(seed)
    bars = walk(random, **KINDS[random.choice(("liquid", "illiquid"))])
    first = random.randrange(len(bars))
    for each in bars[first:]:
        each.update({name: each[name] * factor for name in ("open", "high", "low", "close")})
        each["start_at"] += timedelta(minutes=gap)
    within = bars[first]
    if gap == 0 and first > 0:  # The price changes during the bar.
        within["open"] = bars[first - 1]["close"]
        within["high"], within["low"] = max(within["open"], within["high"]), min(within["open"], within["low"])
    assert suspects(connection, bars) == {}


def test_the_opening_of_the_session_is_no_spike(connection: duckdb.DuckDBPyConnection) -> None:
    """Quiet before the opening, then another level and moves ten times as large that calm down."""
    random = Random(930)
    before = [bar(minute - 60, 40 + random.choice((0, 0.01)), segment="pre") for minute in range(0, 60, 2)]
    after, level = [], 42.0
    for minute in range(120):
        close = level + random.choice((-1, 1)) * max(0.3 - minute / 200, 0.05)
        after.append(bar(minute, level, max(level, close) + 0.1, min(level, close) - 0.1, close))
        level = close
    assert suspects(connection, before + after) == {}


def test_two_bars_that_agree_are_no_spike(connection: duckdb.DuckDBPyConnection) -> None:
    prices = [43.7, 43.71, 43.69, 43.7, 43.7, 51.6, 51.59, 43.71, 43.7, 43.69, 43.7, 43.7, 43.7, 43.71]
    assert suspects(connection, [bar(minute, price) for minute, price in enumerate(prices)]) == {}
    prices[6] = 43.7
    found = suspects(connection, [bar(minute, price) for minute, price in enumerate(prices)])
    assert found == {("NIO", OPEN_AT + timedelta(minutes=5)): ("close", 51.6, 43.7)}


def test_extended_hours_are_allowed_three_times_the_noise(connection: duckdb.DuckDBPyConnection) -> None:
    def spike(size: float, segment: str) -> int:
        prices = [100.0, 100.2] * 10
        prices[9] = 100 + size
        bars = [bar(minute, price, segment=segment) for minute, price in enumerate(prices)]
        return len(suspects(connection, bars))

    # The usual move is 0.2, and so is a tick: 6 or 18 times 0.2 and 5 times 0.2 above the level of 100.
    sizes = (2.15, 2.25, 4.55, 4.65)
    assert [spike(size, "regular") for size in sizes] == [0, 1, 1, 1]
    assert [spike(size, "pre") for size in sizes] == [0, 0, 0, 1]


def test_a_price_that_was_not_traded_neither_is_suspect_nor_a_neighbour(connection: duckdb.DuckDBPyConnection) -> None:
    bars = [bar(minute, 43.7) for minute in range(20)]
    untraded = [bar(minute, 14.6, volume=0) for minute in range(20, 30)]
    assert suspects(connection, bars + untraded) == {}
    bars[9] = bar(9, 43.7, 51.59, 43.7, 43.7)
    around = [bar(minute, 51.59, volume=0) | {"start_at": bars[9]["start_at"] + timedelta(seconds=minute)}
              for minute in (-2, -1, 1, 2)]  # fmt: skip
    assert suspects(connection, bars + around) == {("NIO", bars[9]["start_at"]): ("high", 51.59, 43.7)}


@pytest.mark.parametrize(
    ("price", "one", "found"), [(0.003, 0.004, 0), (0.003, 0.009, 1), (43.7, 43.6, 0), (43.7, 44.0, 1), (20.0, 21.0, 1)]
)
def test_a_few_ticks_are_no_spike_however_quiet_the_instrument_is(
    connection: duckdb.DuckDBPyConnection, price: float, one: float, found: int
) -> None:
    bars = [bar(minute, price) for minute in range(40)]
    bars[20] = bar(20, one)
    assert len(suspects(connection, bars)) == found


@pytest.mark.parametrize(("count", "found"), [(9, 0), (10, 1)])
def test_what_is_usual_needs_ten_bars(connection: duckdb.DuckDBPyConnection, count: int, found: int) -> None:
    bars = [bar(minute, 43.7) for minute in range(count)]
    bars[4] = bar(4, 43.7, 51.59, 43.7, 43.7)
    assert len(suspects(connection, bars)) == found


@pytest.mark.parametrize("place", [0, 19])
def test_at_the_ends_of_the_session_the_bar_itself_says_whether_the_price_came_back(
    connection: duckdb.DuckDBPyConnection, place: int
) -> None:
    bars = [bar(minute, 43.7) for minute in range(20)]
    bars[place] = bar(place, 43.7, 51.59, 43.7, 43.7)
    assert suspects(connection, bars) == {("NIO", bars[place]["start_at"]): ("high", 51.59, 43.7)}
    bars[place] = bar(place, 51.59)
    assert suspects(connection, bars) == {}


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    low = math.floor(place)
    return ordered[low] + (ordered[min(low + 1, len(ordered) - 1)] - ordered[low]) * (place - low)


def by_hand(bars: list[Bar]) -> Found:
    """The suspect bars of one instrument's session, bar by bar."""
    bars = sorted((each for each in bars if each["is_traded"]), key=lambda each: each["start_at"])
    moves = []
    for i, each in enumerate(bars):
        last = bars[i - 1]["close"] if i else each["open"]
        moves.append(max(each["high"], last) - min(each["low"], last))
    found = {}
    for i, each in enumerate(bars):
        closes = [other["close"] for other in reversed(bars[max(i - 3, 0) : i])] or [each["open"]]
        opens = [other["open"] for other in bars[i + 1 : i + 4]] or [each["close"]]
        middle = [sorted(side)[1] if len(side) == 3 else side[0] for side in (closes, opens)]
        levels = [closes[0], opens[0], *middle]
        segment = [move for move, other in zip(moves, bars, strict=True) if other["segment"] == each["segment"]]
        near = [moves[j] for j in range(max(i - 15, 0), min(i + 16, len(bars))) if j != i]
        if len(near) < 9:
            continue
        scale = max(quantile(near, 0.75), quantile(segment, 0.75) if len(segment) >= 10 else 0)
        others = [moves[j] for j in range(max(i - 15, 0), min(i + 16, len(bars))) if j not in (i, i + 1)]
        tick = max(quantile([move for move in others if move > 0] or [0], 0.1), 1e-6)  # Six decimals or more.
        allowed = (6 if each["segment"] == "regular" else 18) * scale + max(5 * tick, each["close"] * 0.005)
        up, down = each["high"] - max(levels), min(levels) - each["low"]
        if max(up, down) > allowed:
            side, level = ("high", max(levels)) if up >= down else ("low", min(levels))
            off = {name: (each[name] - level) * (1 if up >= down else -1) for name in ("close", "open", side)}
            price = next(name for name in off if off[name] > allowed)
            found[each["instrument_id"], each["start_at"]] = (price, each[price], level)
    return found


@given(seed=st.integers(0, 2**32))
def test_the_filter_is_that_of_plain_python(connection: duckdb.DuckDBPyConnection, seed: int) -> None:
    random = Random(seed)
    bars, wanted = [], {}
    for instrument in ("AAPL", "NIO"):
        own, level = [], random.uniform(1, 500)
        usual, pre, regular = level * random.choice((0.0002, 0.002)), random.randrange(40), random.randrange(60)
        for minute in sorted(random.sample(range(200), pre + regular)):
            noise = usual if minute < 140 else usual / 5  # The session grows calm.
            prices = [level + random.gauss(0, noise) for _ in range(4)]
            for place in range(4):
                if random.random() < 0.02:
                    prices[place] += random.choice((-1, 1)) * level * random.choice((0.01, 0.03, 0.1))
            segment = "pre" if len(own) < pre else "regular"
            volume = 0 if random.random() < 0.05 else 100
            open_, close = prices[0], prices[3]
            own.append(bar(minute, open_, max(prices), min(prices), close, instrument=instrument, segment=segment,
                           volume=volume))  # fmt: skip
            level += random.gauss(0, noise) if random.random() < 0.98 else level * 0.05
        bars += own
        wanted |= by_hand(own)
    random.shuffle(bars)
    assert suspects(connection, bars) == wanted
