"""Which splits count in a session, and which jumps look like one that no action announces."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from math import isfinite, sin
from typing import NamedTuple

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.domains.market.corporate_actions.splits import RATIOS, session_splits

FIRST = date(2024, 1, 1)
BOTH_WAYS = [pair for new, old in RATIOS for pair in ((new, old), (old, new))]


class Series(NamedTuple):
    """Closes and volumes of an instrument on consecutive days from `FIRST`."""

    closes: list[float]
    volumes: Sequence[float | None]
    source: str = "x"
    instrument_id: str = "A"
    currency: str = "EUR"
    adjusted_as_of: date | None = None


class Split(NamedTuple):
    """A split that a source announces."""

    ex_date: date
    factor: float
    source: str = "x"
    instrument_id: str = "A"
    currency: str = "EUR"


Found = dict[tuple[str, str, date], tuple[float, str | None]]


def found(series: list[Series], splits: list[Split] | None = None) -> Found:
    """(source, currency, session) -> (factor of the splits that count, suspected split)."""
    connection = duckdb.connect(config={"threads": 1})
    connection.execute(
        "CREATE TABLE closes (source TEXT, instrument_id TEXT, currency TEXT, session DATE, close DOUBLE, "
        "volume DOUBLE, adjusted_as_of DATE); CREATE TABLE splits (source TEXT, instrument_id TEXT, currency TEXT, "
        "ex_date DATE, split_factor DOUBLE)"
    )
    rows = [
        (each.source, each.instrument_id, each.currency, day(number), close, volume, each.adjusted_as_of)
        for each in series
        for number, (close, volume) in enumerate(zip(each.closes, each.volumes, strict=True))
    ]
    announced = [(each.source, each.instrument_id, each.currency, each.ex_date, each.factor) for each in splits or []]
    for table, values in (("closes", rows), ("splits", announced)):
        if values:
            connection.execute(f"INSERT INTO {table} VALUES {', '.join(map(sql, values))}")
    query = (
        f"SELECT source, currency, session, split_factor, suspected_split FROM ({session_splits('closes', 'splits')})"
    )
    return {
        (source, currency, session): (factor, suspected)
        for source, currency, session, factor, suspected in connection.execute(query).fetchall()
    }


def sql(row: tuple[object, ...]) -> str:
    return f"({', '.join('NULL' if value is None else repr(str(value)) for value in row)})"


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def quiet(count: int, price: float = 80.0) -> list[float]:
    """Closes that move by about one percent."""
    return [price * (1 + 0.01 * sin(7 * number)) for number in range(count)]


def jump(ratio: float, move: float, volume: float, history: int = 15) -> Series:
    """A quiet share whose last close has `ratio` times as many shares and moved besides."""
    closes = quiet(history)
    return Series([*closes, closes[-1] / ratio * (1 + move)], [10_000.0] * history + [10_000 * volume])


@given(st.sampled_from(BOTH_WAYS), st.floats(-0.015, 0.015), st.floats(0.95, 1.2), st.integers(1, 40))
def test_session_splits__an_unannounced_split_is_suspected(
    ratio: tuple[int, int], move: float, volume: float, history: int
) -> None:
    new, old = ratio
    # A consolidation's volume has less room below.
    volume = volume if new > old else 1 / volume
    series = jump(new / old, move, volume * new / old, history)
    assert found([series]) == {("x", "EUR", day(history)): (1.0, f"{new}:{old}")}


@given(st.sampled_from(BOTH_WAYS), st.floats(-0.015, 0.015), st.floats(1, 20))
def test_session_splits__news_bring_volume_that_no_split_brings(
    ratio: tuple[int, int], move: float, volume: float
) -> None:
    """A price that falls with less traded, or rises with more, moved."""
    new, old = ratio
    assert found([jump(new / old, move, 1 / volume if new > old else volume)]) == {}


@given(st.floats(-0.15, 0.15), st.floats(0.1, 10))
def test_session_splits__an_ordinary_move_is_none(move: float, volume: float) -> None:
    assert found([jump(1, move, volume)]) == {}


@pytest.mark.parametrize("ratio", [0.13, 0.7, 1.4, 1.75, 11, 13.5])
def test_session_splits__a_jump_between_the_ratios_is_none(ratio: float) -> None:
    assert found([jump(ratio, 0, ratio)]) == {}


def test_session_splits__what_often_jumps_is_not_splitting() -> None:
    closes = [0.02, 0.03, 0.02, 0.024, 0.02, 0.03, 0.02, 0.01]
    assert found([Series(closes, [10_000.0] * 7 + [20_000])]) == {}


@given(st.sampled_from(BOTH_WAYS), st.floats(0.2, 5))
def test_session_splits__an_announced_split_counts_and_is_not_suspected(ratio: tuple[int, int], volume: float) -> None:
    factor = ratio[0] / ratio[1]
    series = jump(factor, 0.01, volume)
    assert found([series], [Split(day(15), factor)]) == {("x", "EUR", day(15)): (pytest.approx(factor), None)}


def test_session_splits__several_in_a_gap_count_together_and_those_outside_nowhere() -> None:
    series = Series(quiet(3), [10.0] * 3)
    splits = [Split(FIRST, 2), Split(day(-5), 3), Split(day(3), 4), Split(day(1), 2), Split(day(2), 3)]
    gone = Series([80.0, 80.0], [10.0, 10.0], currency="USD")
    assert found([series], splits) == {("x", "EUR", day(1)): (2, None), ("x", "EUR", day(2)): (3, None)}
    assert found([gone], [Split(day(1), 2, currency="USD"), Split(day(1), 3, currency="USD")]) == {
        ("x", "USD", day(1)): (6, None)
    }


ISIN = "DE000A161N30"


@pytest.mark.parametrize(
    ("split", "counts"),
    [
        (Split(day(15), 4, source="other"), True),
        (Split(day(15), 4, currency="USD"), True),
        (Split(day(15), 4, source="other", currency="USD"), False),
        (Split(day(15), 4, source="other", instrument_id="B"), False),
    ],
)
def test_session_splits__another_source_of_the_same_instrument_knows_it(split: Split, counts: bool) -> None:
    key = ("x", "EUR", day(15))
    assert found([jump(4, 0, 4)], [split]) == {key: (4, None) if counts else (1, "4:1")}


def test_session_splits__an_isin_is_the_same_instrument_in_every_currency() -> None:
    series = jump(4, 0, 4)._replace(instrument_id=ISIN)
    assert found([series], [Split(day(15), 4, "other", ISIN, "USD")]) == {("x", "EUR", day(15)): (4, None)}


def test_session_splits__one_split_that_two_sources_date_apart_counts_once() -> None:
    splits = [Split(day(15), 4), Split(day(16), 4, "b"), Split(day(14), 4, "a"), Split(day(2), 2, "a")]
    series = jump(4, 0, 4)
    series = series._replace(closes=[*series.closes, series.closes[-1]], volumes=[*series.volumes, 40_000.0])
    assert found([series], splits) == {("x", "EUR", day(2)): (2, None), ("x", "EUR", day(15)): (4, None)}


def test_session_splits__what_a_vendor_adjusted_is_not_split_again() -> None:
    flat = Series(quiet(16), [10.0] * 16, adjusted_as_of=day(20))
    assert found([flat], [Split(day(15), 4, "other")]) == {}
    early = flat._replace(adjusted_as_of=day(3))
    assert found([early], [Split(day(15), 4, "other")]) == {("x", "EUR", day(15)): (4, None)}


def test_session_splits__prices_of_zero_and_below_are_no_split() -> None:
    assert found([Series([1.0, 0.0, -2.0, -1.0, 5.0], [10.0, 20, 20, 20, 20])]) == {}
    assert found([]) == {}


def test_session_splits__without_volumes_nothing_is_suspected() -> None:
    split = jump(4.0, 0.0, 4.0)
    assert found([split]) != {}
    assert found([split._replace(volumes=[None] * len(split.volumes))]) == {}


PRICES = st.sampled_from([-1.0, 0.0, 1e-12, 1.0, 9.9e14])
VOLUMES = st.sampled_from([5e-324, 1e-320, 1e-12, 1.0, 9.9e17, None])


@given(
    closes=st.lists(PRICES, min_size=2, max_size=8),
    volumes=st.lists(VOLUMES, min_size=8, max_size=8),
    splits=st.lists(st.sampled_from([1e-6, 1e6]), max_size=3),
    repeated=st.sampled_from([1, 60]),
)
def test_session_splits__any_accepted_rows_make_factors_above_zero(
    closes: list[float], volumes: list[float | None], splits: list[float], repeated: int
) -> None:
    """Volumes whose quotient is too small for a double, and so many splits in a gap that their product is."""
    announced = [Split(day(1) + timedelta(days=number), factor) for number, factor in enumerate(splits * repeated)]
    series = Series(closes, volumes[: len(closes)])
    later = Series(closes, volumes[: len(closes)], instrument_id="B")
    gap = [split._replace(instrument_id="B", ex_date=day(1)) for split in announced]
    for factor, _ in found([series, later], announced + gap).values():
        assert isfinite(factor)
        assert factor > 0
