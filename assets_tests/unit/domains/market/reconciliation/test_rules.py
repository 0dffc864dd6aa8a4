"""Breaks between two daily series, held against a comparison in plain Python, session by session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.domains.market.reconciliation.rules import Tolerances, TwoSeries
from lakehouse.lake.engine import connect

FIRST = date(2020, 1, 1)
PRICES = ("open", "high", "low", "close")
TOLERANCES = Tolerances(price_bp=1.0, close_bp=50.0, volume_min=0.5, volume_max=1.05)

FACTORS = {
    "instrument_id": pl.String, "currency": pl.String, "ex_date": pl.Date, "split_factor": pl.Float64,
    "dividend_factor": pl.Float64, "dividend_convention": pl.String,
}  # fmt: skip
DAILY = {
    "instrument_id": pl.String, "symbol": pl.String, "currency": pl.String, "session": pl.Date, "open": pl.Float64,
    "high": pl.Float64, "low": pl.Float64, "close": pl.Float64, "volume": pl.Int64, "adjusted_as_of": pl.Date,
}  # fmt: skip

Row = dict[str, Any]


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def factor(number: int, *, split: float = 1.0, dividend: float = 1.0, instrument: str = "A") -> Row:
    return {
        "instrument_id": instrument, "currency": "USD", "ex_date": day(number), "split_factor": split,
        "dividend_factor": dividend, "dividend_convention": "reinvest",
    }  # fmt: skip


def bar(number: int, price: float | None = 10.0, instrument: str = "A", **values: Any) -> Row:
    return {
        "instrument_id": instrument, "symbol": instrument.lower(), "currency": "USD", "session": day(number),
        **dict.fromkeys(PRICES, price), "volume": 1000, "adjusted_as_of": None,
    } | values  # fmt: skip


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return connect("")


def register(
    connection: duckdb.DuckDBPyConnection, ours: Iterable[Row], theirs: Iterable[Row], factors: Iterable[Row] = ()
) -> tuple[str, str, str]:
    for name, rows, schema in (("mine", ours, DAILY), ("official", theirs, DAILY), ("factors", factors, FACTORS)):
        connection.register(name, pl.DataFrame(list(rows), schema=schema))
    return "mine", "official", "factors"


def breaks_of(
    connection: duckdb.DuckDBPyConnection,
    ours: Iterable[Row],
    theirs: Iterable[Row],
    factors: Iterable[Row] = (),
    **options: Any,
) -> list[Row]:
    query = TwoSeries(*register(connection, ours, theirs, factors), TOLERANCES, **options).breaks()
    return connection.execute(f"SELECT * FROM ({query}) ORDER BY instrument_id, session, kind, field").pl().to_dicts()


def kinds(found: list[Row]) -> list[tuple[date, str, str]]:
    return [(row["session"], row["kind"], row["field"]) for row in found]


# The same in plain Python.


def scale(factors: list[Row], row: Row, basis: date | None) -> tuple[float, float]:
    """(price, volume) of the row's session on that basis, as a multiple of what was traded."""
    price = shares = 1.0
    for one in factors:
        if one["instrument_id"] == row["instrument_id"] and basis and row["session"] < one["ex_date"] <= basis:
            price *= one["dividend_factor"] / one["split_factor"]
            shares *= one["split_factor"]
    return price, shares


def deviation(value: float, other: float) -> float:
    return (value - other) / other * 10_000


def expected_breaks(ours: list[Row], theirs: list[Row], factors: list[Row]) -> dict[tuple, Row]:
    found = {}
    for instrument in {row["instrument_id"] for row in ours}:
        mine = {row["session"]: row for row in ours if row["instrument_id"] == instrument}
        other = {row["session"]: row for row in theirs if row["instrument_id"] == instrument}
        common = sorted(mine.keys() & other.keys())
        if not common:
            continue
        agreeing: Counter[object] = Counter()
        ex_dates = [f["ex_date"] for f in factors if f["instrument_id"] == instrument and f["ex_date"] > common[0]]
        others = [None, *sorted(when - timedelta(days=1) for when in ex_dates)]
        others += [max(ex_dates)] if ex_dates else []
        for candidate in ("declared", *others):
            agreeing[candidate] = 0
            for session in common:
                row = mine[session]
                basis = row["adjusted_as_of"] if candidate == "declared" else candidate
                by, _ = scale(factors, row, basis)
                agreeing[candidate] += all(
                    abs(deviation(row[field] / by, other[session][field])) <= TOLERANCES.price_bp
                    for field in ("open", "high", "low")
                )
        chosen = max(agreeing, key=lambda candidate: agreeing[candidate])  # the first of several
        for session in sorted(mine.keys() | other.keys()):
            if not common[0] <= session <= common[-1]:
                continue
            if session not in mine or session not in other:
                kind = "missing_theirs" if session in mine else "missing_ours"
                found[instrument, session, kind, "close"] = None
                continue
            row, official = mine[session], other[session]
            basis = row["adjusted_as_of"] if chosen == "declared" else chosen
            by, shares = scale(factors, row, basis)
            off = {field: deviation(row[field] / by, official[field]) for field in PRICES}
            ratio = (off["open"] + off["high"] + off["low"]) / 3
            one_ratio = all(abs(off[field] - ratio) <= TOLERANCES.price_bp for field in ("open", "high", "low"))
            if abs(ratio) > TOLERANCES.price_bp and one_ratio and abs(off["close"] - ratio) <= TOLERANCES.close_bp:
                found[instrument, session, "basis", "close"] = (row["close"] / by, ratio, basis)
            else:
                for field in PRICES:
                    limit = TOLERANCES.close_bp if field == "close" else TOLERANCES.price_bp
                    if abs(off[field]) > limit:
                        kind = "close" if field == "close" else "price"
                        found[instrument, session, kind, field] = (row[field] / by, off[field], basis)
            volume = row["volume"] / shares / official["volume"]
            if not TOLERANCES.volume_min <= volume <= TOLERANCES.volume_max:
                found[instrument, session, "volume", "volume"] = (row["volume"] / shares, volume, basis)
    return found


@st.composite
def two_series(draw: st.DrawFn) -> tuple[list[Row], list[Row], list[Row]]:
    """(ours, theirs, factors): ours came on a basis that may not be the declared one, some sessions on another; some
    prices and volumes are wrong, some sessions missing.
    """
    ours, theirs, factors = [], [], []
    bases = st.none() | st.integers(0, 15).map(day)
    # No deviation is so near a tolerance that the last bit decides.
    small = st.sampled_from([0.0, 0.0, 0.0, 0.4, -0.37])
    for instrument in ("A", "B"):
        for number in draw(st.lists(st.integers(0, 15), unique=True, max_size=3)):
            splits, dividends = st.sampled_from([1.0, 1.0, 2.0, 0.25]), st.sampled_from([0.99, 0.95, 0.9967])
            factors.append(factor(number, split=draw(splits), dividend=draw(dividends), instrument=instrument))
        came, declared = draw(bases), draw(bases)
        for number in draw(st.lists(st.integers(0, 12), unique=True, max_size=13)):
            price = draw(st.sampled_from([10.0, 31.25, 480.0]))
            official = bar(number, price, instrument, volume=1_000_000)
            fate = draw(st.sampled_from(["same"] * 6 + ["basis", "price", "close", "volume", "not_ours", "not_theirs"]))
            row = official | {"adjusted_as_of": draw(st.sampled_from([declared] * 5 + [came]))}
            by, shares = scale(factors, row, draw(bases) if fate == "basis" else came)
            for field in PRICES:
                wrong = draw(small)
                if fate == field or (fate == "price" and field != "close"):
                    wrong = draw(st.sampled_from([0.0, 3.1, 31.0, -83.0, 211.0]))
                row[field] = price * by * (1 + wrong / 10_000)
            share = draw(st.sampled_from([0.3, 0.499, 1.06])) if fate == "volume" else 0.87
            row["volume"] = round(1_000_000 * share * shares)
            ours += [row] if fate != "not_ours" else []
            theirs += [official] if fate != "not_theirs" else []
    return ours, theirs, factors


@given(two_series())
def test_breaks_as_in_plain_python(
    connection: duckdb.DuckDBPyConnection, series: tuple[list[Row], list[Row], list[Row]]
) -> None:
    found = breaks_of(connection, *series)
    expected = expected_breaks(*series)
    keys = [(row["instrument_id"], row["session"], row["kind"], row["field"]) for row in found]
    assert sorted(keys) == sorted(expected)
    for key, row in zip(keys, found, strict=True):
        if expected[key] is None:
            assert (row["deviation_bp"], row["ratio"]) == (None, None)
            assert (row["value"] is None) == (row["kind"] == "missing_ours")
            assert (row["other_value"] is None) == (row["kind"] == "missing_theirs")
            continue
        value, size, basis = expected[key]
        assert row["value"] == pytest.approx(value, rel=1e-12)
        assert row["ratio" if row["kind"] == "volume" else "deviation_bp"] == pytest.approx(size, abs=1e-7)
        assert row["deviation_bp" if row["kind"] == "volume" else "ratio"] is None
        assert row["basis_as_of"] == basis


# Single cases


def test_sessions_without_a_later_dividend_are_basis_breaks(connection: duckdb.DuckDBPyConnection) -> None:
    """As QCOM's archive: adjusted for a dividend of 0.4315%, but for three sessions that came before it."""
    paid = [factor(8, dividend=1 - 0.004315)]
    theirs = [bar(number, 140.0) for number in range(10)]
    ours = [bar(n, 140.0 if n in (2, 3, 5) or n >= 8 else 140 * (1 - 0.004315)) for n in range(10)]
    for declared in (None, day(7), day(9)):
        stated = [row | {"adjusted_as_of": declared} for row in ours]
        found = breaks_of(connection, stated, theirs, paid)
        assert kinds(found) == [(day(number), "basis", "close") for number in (2, 3, 5)]
        assert {round(row["deviation_bp"], 2) for row in found} == {43.34}
        assert {row["basis_as_of"] for row in found} == {declared if declared == day(9) else day(8)}


def test_the_basis_that_was_found_is_told_where_it_is_another(connection: duckdb.DuckDBPyConnection) -> None:
    """A was declared as of a day after both dividends and came between them, B came as declared, C as traded."""
    paid = [factor(n, dividend=0.98, instrument=one) for one in "ABC" for n in (5, 8)]
    theirs = [bar(n, 50.0, one) for one in "ABC" for n in range(7)]
    came = {"A": day(6), "B": day(9), "C": None}
    ours = [
        row | dict.fromkeys(PRICES, 50 * scale(paid, row, came[row["instrument_id"]])[0]) | {"adjusted_as_of": day(9)}
        for row in theirs
    ]
    ours[0] |= {"high": 60.0}
    query = TwoSeries(*register(connection, ours, theirs, paid), TOLERANCES).other_bases()
    found = connection.execute(f"SELECT * FROM ({query}) ORDER BY instrument_id").fetchall()
    assert found == [("A", "USD", "a", 7, day(9), 0, day(7), 6), ("C", "USD", "c", 7, day(9), 0, None, 7)]
    assert kinds(breaks_of(connection, ours, theirs, paid)) == [(day(0), "price", "high")]


@pytest.mark.parametrize(("came", "found"), [((None, 7), None), ((7, 10), 7), ((10, 7), 7)])
def test_of_bases_with_as_many_sessions_the_earliest_is_taken(
    connection: duckdb.DuckDBPyConnection, came: tuple[int | None, int], found: int | None
) -> None:
    paid = [factor(n, dividend=0.98) for n in (5, 8, 11)]
    theirs = [bar(0), bar(1)]
    ours = []
    for row, number in zip(theirs, came, strict=True):
        price, _ = scale(paid, row, None if number is None else day(number))
        ours.append(row | dict.fromkeys(PRICES, 10 * price) | {"adjusted_as_of": day(20)})
    (row,) = breaks_of(connection, ours, theirs, paid)
    assert (row["kind"], row["basis_as_of"]) == ("basis", None if found is None else day(found))


def test_an_ex_date_early_in_the_series_makes_a_basis_too(connection: duckdb.DuckDBPyConnection) -> None:
    theirs = [bar(0), bar(1)]
    ours = [bar(0, 9.8), bar(1)]
    assert breaks_of(connection, ours, theirs, [factor(1, dividend=0.98)]) == []


def test_rows_may_declare_several_bases(connection: duckdb.DuckDBPyConnection) -> None:
    """Months asked for on different days: each row's own basis is honoured, and no break is found."""
    paid = [factor(5, split=4.0), factor(8, dividend=0.98)]
    theirs = [bar(number, 80.0, volume=1000) for number in range(7)]
    ours = []
    for row in theirs:
        basis = day(5 if row["session"] < day(3) else 9)
        price, shares = scale(paid, row, basis)
        ours.append(row | dict.fromkeys(PRICES, 80 * price) | {"volume": int(900 * shares), "adjusted_as_of": basis})
    assert breaks_of(connection, ours, theirs, paid) == []
    query = TwoSeries(*register(connection, ours, theirs, paid), TOLERANCES).compared()
    found = connection.execute(f"SELECT session, close, ratio, basis_as_of FROM ({query}) ORDER BY session").fetchall()
    near = pytest.approx
    assert found == [(day(n), near(80), near(0.9), day(5 if n < 3 else 9)) for n in range(7)]


def test_the_basis_of_the_others_is_honoured(connection: duckdb.DuckDBPyConnection) -> None:
    paid = [factor(2, dividend=0.9)]
    ours, theirs = [bar(0, 10.0), bar(3, 10.0)], [bar(0, 9.0, adjusted_as_of=day(2)), bar(3, 10.0)]
    assert len(breaks_of(connection, ours, theirs, paid)) == 1
    assert breaks_of(connection, ours, theirs, paid, their_basis="adjusted_as_of") == []
    # Without a basis column of ours, as traded is declared.
    assert breaks_of(connection, ours, theirs, paid, our_basis=None, their_basis="adjusted_as_of") == []


def test_sessions_are_missed_between_the_first_and_the_last_that_both_have(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    ours = [bar(n) for n in (0, 2, 3, 6)] + [bar(n, 10.0, "C") for n in (0, 1)]
    theirs = [bar(n) for n in (1, 2, 4, 6, 7)] + [bar(n, 10.0, "C") for n in (2, 3)]
    found = breaks_of(connection, ours, theirs)
    assert kinds(found) == [(day(3), "missing_theirs", "close"), (day(4), "missing_ours", "close")]
    assert [(row["value"], row["other_value"], row["symbol"]) for row in found] == [(10, None, "a"), (None, 10, "a")]


def test_a_close_of_its_own_is_no_basis(connection: duckdb.DuckDBPyConnection) -> None:
    """All four off by one ratio is a basis; with a close elsewhere each price is a break, and so is the close."""
    theirs = [bar(n) for n in range(4)]
    ours = [bar(0), bar(1, 10.1), bar(2, 10.1, close=10.2), bar(3, close=10.06)]
    assert kinds(breaks_of(connection, ours, theirs)) == [
        (day(1), "basis", "close"),
        (day(2), "close", "close"),
        *[(day(2), "price", field) for field in ("high", "low", "open")],
        (day(3), "close", "close"),
    ]


def test_nothing_to_divide_by(connection: duckdb.DuckDBPyConnection) -> None:
    """A zero price or volume on both sides agrees; on one side it is a break. What is not there is not compared."""
    theirs = [bar(0), bar(1, 0.0, volume=0), bar(2, 0.0, volume=0), bar(3, -5.0), bar(4, None), bar(5)]
    ours = [bar(0), bar(1, 0.0, volume=0), bar(2, 1.0), bar(3, -5.01), bar(4), bar(5)]
    found = breaks_of(connection, ours, theirs)
    assert kinds(found)[:5] == [
        (day(2), "close", "close"),
        *[(day(2), "price", field) for field in ("high", "low", "open")],
        (day(2), "volume", "volume"),
    ]
    assert kinds(found)[5:] == [(day(3), "price", field) for field in ("high", "low", "open")]
    assert found[-1]["deviation_bp"] is None, "a share of a negative price means nothing"


def test_tolerances_are_the_callers(connection: duckdb.DuckDBPyConnection) -> None:
    names = register(connection, [bar(0), bar(1, high=10.02, close=10.04, volume=700)], [bar(0), bar(1)])
    wide = Tolerances(price_bp=30, close_bp=50, volume_min=0.6, volume_max=1)

    def found(tolerances: Tolerances) -> list[str]:
        return [row[4] for row in connection.execute(TwoSeries(*names, tolerances).breaks()).fetchall()]

    assert found(wide) == []
    assert found(replace(wide, price_bp=10)) == ["price"]
    assert found(replace(wide, close_bp=30)) == ["close"]
    assert found(replace(wide, volume_min=0.8)) == ["volume"]
    assert found(replace(wide, volume_max=0.65)) == ["volume", "volume"]
