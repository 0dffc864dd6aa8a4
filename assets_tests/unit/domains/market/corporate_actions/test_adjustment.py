"""Adjustment factors and adjusted prices, held against plain Python in exact fractions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from fractions import Fraction
from math import prod
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.domains.market.corporate_actions.adjustment import adjusted, factors, with_changes
from lakehouse.lake.engine import connect

FIRST = date(2020, 1, 1)
DAYS = 24
EXACT = 1e-12
ADJUSTS = ("none", "splits", "splits_and_dividends")
CRSP, REINVEST = "'crsp'", "'reinvest'"

ACTIONS = {
    "instrument_id": pl.String, "currency": pl.String, "ex_date": pl.Date, "kind": pl.String,
    "dividend_amount": pl.Float64, "split_coefficient": pl.Float64,
}  # fmt: skip
ROWS = {
    "instrument_id": pl.String, "currency": pl.String, "session": pl.Date, "open": pl.Float64, "high": pl.Float64,
    "low": pl.Float64, "close": pl.Float64, "volume": pl.Float64, "adjusted_as_of": pl.Date, "prev_session": pl.Date,
    "prev_close": pl.Float64, "change_pct": pl.Float64,
}  # fmt: skip

Row = dict[str, Any]


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def dividend(number: int, amount: float, instrument: str = "A") -> Row:
    return {
        "instrument_id": instrument,
        "currency": "USD",
        "ex_date": day(number),
        "kind": "dividend",
        "dividend_amount": amount,
        "split_coefficient": None,
    }


def split(number: int, coefficient: float, instrument: str = "A") -> Row:
    return dividend(number, 0, instrument) | {
        "kind": "split",
        "dividend_amount": None,
        "split_coefficient": coefficient,
    }


def bar(number: int, close: float | None, instrument: str = "A", **values: Any) -> Row:
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    return dict.fromkeys(ROWS) | {
        "instrument_id": instrument, "currency": "USD", "session": day(number), "volume": 1000, **prices,
    } | values  # fmt: skip


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return connect("")


def register(connection: duckdb.DuckDBPyConnection, actions: Iterable[Row], rows: Iterable[Row]) -> None:
    connection.register("actions", pl.DataFrame(list(actions), schema=ACTIONS))
    connection.register("bars", pl.DataFrame(list(rows), schema=ROWS))


def factors_of(
    connection: duckdb.DuckDBPyConnection, actions: Iterable[Row], rows: Iterable[Row], convention: str
) -> list[Row]:
    register(connection, actions, rows)
    query = f"SELECT * FROM ({factors('actions', 'bars', convention)}) ORDER BY instrument_id, currency, ex_date"
    return connection.execute(query).pl().to_dicts()


def query_of(convention: str, adjust: str, as_of: str, *, mixed: bool = False) -> str:
    """The query under test; `mixed` where rows came adjusted, by `reinvest`, as of their adjusted_as_of."""
    wanted = f"({factors('actions', 'closes' if mixed else 'bars', convention)})"
    if not mixed:
        return adjusted("bars", wanted, adjust, as_of)
    came = f"({factors('actions', 'closes', REINVEST)})"
    return adjusted("bars", wanted, adjust, as_of, basis="adjusted_as_of", basis_factors=came)


# The same in plain Python: exact fractions, one ex-date after the other.


def expected_factor(actions: list[Row], closes: list[Row], row: Row, ex_date: date, convention: str) -> tuple:
    """(split factor, dividend factor, skipped) of an ex-date of the row's instrument and currency."""
    series = (row["instrument_id"], row["currency"])
    mine = [action for action in actions if (action["instrument_id"], action["currency"]) == series]
    closes = [bar for bar in closes if (bar["instrument_id"], bar["currency"]) == series and bar["close"] is not None]

    def splits_on(when: date) -> Fraction:
        found = [action["split_coefficient"] for action in mine if action["ex_date"] == when]
        return prod((Fraction(one) for one in found if one is not None), start=Fraction(1))

    paid = [a["dividend_amount"] for a in mine if a["ex_date"] == ex_date and a["kind"] == "dividend"]
    if not paid:
        return splits_on(ex_date), Fraction(1), False
    amount = sum(Fraction(one) for one in paid)
    earlier = [bar for bar in closes if bar["session"] < ex_date]
    on_day = [bar for bar in closes if bar["session"] == ex_date]
    factor = None
    if convention == CRSP and earlier:
        last = max(earlier, key=lambda bar: bar["session"])
        price = Fraction(last["close"])
        for when in {action["ex_date"] for action in mine if last["session"] < action["ex_date"] <= ex_date}:
            price /= splits_on(when)
        factor = 1 - amount / price
    elif convention == REINVEST and on_day:
        factor = Fraction(on_day[0]["close"]) / (Fraction(on_day[0]["close"]) + amount)
    if factor is None or factor <= 0:
        return splits_on(ex_date), Fraction(1), True
    return splits_on(ex_date), factor, False


def expected_scale(
    actions: list[Row], closes: list[Row], row: Row, until: date | None, convention: str, adjust: str
) -> tuple[Fraction, Fraction]:
    """(splits, dividends) by which a row is scaled: those of the ex-dates in (session, until]."""
    splits = dividends = Fraction(1)
    for ex_date in sorted({action["ex_date"] for action in actions if action["instrument_id"] == row["instrument_id"]}):
        if until is None or not row["session"] < ex_date <= until:
            continue
        coefficient, factor, _ = expected_factor(actions, closes, row, ex_date, convention)
        splits *= coefficient if adjust != "none" else 1
        dividends *= factor if adjust == "splits_and_dividends" else 1
    return splits, dividends


prices = st.integers(100, 50_000).map(lambda cents: cents / 100)
instruments = st.sampled_from(["A", "B"])
numbers = st.integers(0, DAYS)
coefficients = st.sampled_from([2.0, 4.0, 7.0, 0.1, 1.5, 0.333333, 7.00000700001])
action_lists = st.lists(
    st.builds(split, numbers, coefficients, instruments)
    | st.builds(dividend, numbers, st.sampled_from([0.01, 0.205, 0.55, 3.0, 400.0]), instruments),
    max_size=12,
)
# Gaps: some days have no row, some rows no close.
row_lists = st.lists(
    st.builds(bar, numbers, prices | st.none(), instruments, volume=st.integers(0, 10**9)),
    unique_by=lambda row: (row["instrument_id"], row["session"]),
    max_size=30,
)


@given(actions=action_lists, rows=row_lists, convention=st.sampled_from([CRSP, REINVEST]))
def test_factors_as_in_plain_python(
    connection: duckdb.DuckDBPyConnection, actions: list[Row], rows: list[Row], convention: str
) -> None:
    found = factors_of(connection, actions, rows, convention)
    assert [(row["instrument_id"], row["ex_date"]) for row in found] == sorted(
        {(action["instrument_id"], action["ex_date"]) for action in actions}
    )
    for row in found:
        coefficient, factor, skipped = expected_factor(actions, rows, row, row["ex_date"], convention)
        assert row["split_factor"] == pytest.approx(float(coefficient), rel=EXACT)
        assert row["dividend_factor"] == pytest.approx(float(factor), rel=EXACT, abs=1e-15)
        assert (row["skipped"], row["dividend_convention"]) == (skipped, convention.strip("'"))


@given(
    actions=action_lists,
    rows=row_lists,
    convention=st.sampled_from([CRSP, REINVEST]),
    adjust=st.sampled_from(ADJUSTS),
    as_of=numbers.map(day),
    bases=st.lists(st.none() | numbers.map(day), min_size=30, max_size=30),
)
def test_adjusted_rows_as_in_plain_python(
    connection: duckdb.DuckDBPyConnection,
    actions: list[Row],
    rows: list[Row],
    convention: str,
    adjust: str,
    as_of: date,
    bases: list[date | None],
) -> None:
    """Rows come on bases of their own, each another; what they were as traded is known here."""
    came = []
    for row, basis in zip(rows, bases, strict=False):
        splits, dividends = expected_scale(actions, rows, row, basis, REINVEST, "splits_and_dividends")
        scaled = {
            name: None if row[name] is None else float(Fraction(row[name]) * dividends / splits)
            for name in ("open", "high", "low", "close")
        }
        came.append(row | scaled | {"volume": round(row["volume"] * splits), "adjusted_as_of": basis})
    register(connection, actions, came)
    connection.register("closes", pl.DataFrame(rows, schema=ROWS))
    query = query_of(convention, f"'{adjust}'", f"DATE '{as_of}'", mixed=True)
    found = {(row["instrument_id"], row["session"]): row for row in connection.execute(query).pl().to_dicts()}
    assert len(found) == len(rows)
    for row, given_row in zip(rows, came, strict=True):
        got = found[row["instrument_id"], row["session"]]
        splits, dividends = expected_scale(actions, rows, row, as_of, convention, adjust)
        for name in ("open", "close"):
            if row[name] is None:
                assert got[name] is None
            else:
                assert got[name] == pytest.approx(float(Fraction(row[name]) * dividends / splits), rel=EXACT)
        came_splits, _ = expected_scale(actions, rows, row, given_row["adjusted_as_of"], REINVEST, "splits")
        shares = float(given_row["volume"] * splits / came_splits)
        assert got["volume"] == pytest.approx(shares, rel=EXACT, abs=1e-6)
        label = adjust if actions else "none"
        assert got["adjustment"] == label
        assert got["prices_as_of"] == (None if label == "none" else as_of)
        assert "adjusted_as_of" not in got


# Single cases


def test_a_split_and_a_dividend_on_one_day_count_the_same_shares(connection: duckdb.DuckDBPyConnection) -> None:
    """The dividend is for a share after the split: 1 of 100 / 4."""
    rows = [bar(0, 100.0), bar(1, 24.0)]
    actions = [split(1, 4.0), dividend(1, 0.6), dividend(1, 0.4)]
    (crsp,) = factors_of(connection, actions, rows, CRSP)
    (reinvest,) = factors_of(connection, actions, rows, REINVEST)
    assert (crsp["split_factor"], crsp["dividend_factor"]) == (4, pytest.approx(0.96, rel=EXACT))
    assert (reinvest["split_factor"], reinvest["dividend_factor"]) == (4, pytest.approx(0.96, rel=EXACT))


def test_the_last_close_may_be_older_than_a_split(connection: duckdb.DuckDBPyConnection) -> None:
    """No trade between the split and the dividend: 1 of 100 / 4, too; the split before the close is no matter."""
    rows = [bar(3, 100.0), bar(4, None)]
    actions = [split(2, 9.0), split(5, 4.0), dividend(7, 1.0)]
    assert factors_of(connection, actions, rows, CRSP)[-1]["dividend_factor"] == pytest.approx(0.96, rel=EXACT)


@pytest.mark.parametrize("convention", [CRSP, REINVEST])
def test_what_has_no_sensible_factor_is_skipped(connection: duckdb.DuckDBPyConnection, convention: str) -> None:
    rows = [bar(0, 10.0, "A"), bar(1, float("nan"), "A"), bar(0, 10.0, "B"), bar(1, 10.0, "B"), bar(9, 10.0, "C")]
    actions = [
        split(1, 0.0, "A"), split(2, -2.0, "A"), split(3, float("inf"), "A"), split(4, float("nan"), "A"),
        split(5, -2.0, "A"), split(5, -2.0, "A"), dividend(1, float("nan"), "B"), dividend(1, 1.0, "B"),
        dividend(0, -1.0, "B"), dividend(8, 1.0, "C"),
    ]  # fmt: skip
    found = factors_of(connection, actions, rows, convention)
    assert len(found) == 8
    assert {(row["split_factor"], row["dividend_factor"], row["skipped"]) for row in found} == {(1.0, 1.0, True)}


def test_a_dividend_beyond_the_price_is_skipped(connection: duckdb.DuckDBPyConnection) -> None:
    rows = [bar(0, 10.0), bar(1, 0.0)]
    assert factors_of(connection, [dividend(1, 10.0)], rows, CRSP)[0]["skipped"]
    assert factors_of(connection, [dividend(1, 10.0)], rows, REINVEST)[0]["skipped"]


def test_a_skipped_split_keeps_the_dividend(connection: duckdb.DuckDBPyConnection) -> None:
    rows = [bar(0, 10.0), bar(1, 10.0)]
    (found,) = factors_of(connection, [split(1, 0.0), dividend(1, 1.0)], rows, CRSP)
    assert (found["split_factor"], found["dividend_factor"], found["skipped"]) == (1, 0.9, True)


def test_series_in_two_currencies_stay_apart(connection: duckdb.DuckDBPyConnection) -> None:
    rows = [bar(0, 100.0), bar(0, 90.0, currency="EUR"), bar(1, 99.0), bar(1, 90.0, currency="EUR")]
    register(connection, [dividend(1, 1.0)], rows)
    found = connection.execute(query_of(CRSP, "'splits_and_dividends'", f"DATE '{day(9)}'")).pl().to_dicts()
    closes = {(row["currency"], row["session"]): row["close"] for row in found}
    assert closes == {("USD", day(0)): 99, ("USD", day(1)): 99, ("EUR", day(0)): 90, ("EUR", day(1)): 90}


def test_nothing_to_adjust_changes_nothing(connection: duckdb.DuckDBPyConnection) -> None:
    """Not by a bit."""
    rows = [bar(number, 0.1 * number, volume=2**53 - number - 0.1 * number) for number in range(9)]
    for actions in ([], [split(0, 2.0), dividend(0, 0.01), split(9, 3.0)]):
        register(connection, actions, rows)
        for adjust in ADJUSTS:
            found = connection.execute(query_of(CRSP, f"'{adjust}'", f"DATE '{day(8)}'")).pl().sort("session")
            columns = ["session", "open", "high", "low", "close", "volume"]
            assert found.select(columns).rows() == [tuple(row[name] for name in columns) for row in rows]


def test_the_day_itself_and_the_days_before_the_session_are_no_matter(connection: duckdb.DuckDBPyConnection) -> None:
    """An ex-date counts for the sessions before it, and from its own day on."""
    register(connection, [split(3, 2.0)], [bar(2, 8.0), bar(3, 4.0)])
    for as_of, expected in ((2, [8, 4]), (3, [4, 4]), (4, [4, 4])):
        found = connection.execute(query_of(CRSP, "'splits'", f"DATE '{day(as_of)}'")).pl().sort("session")
        assert found["close"].to_list() == expected
        assert found["volume"].to_list() == ([2000, 1000] if as_of > 2 else [1000, 1000])


def test_the_query_is_the_body_of_a_table_macro(connection: duckdb.DuckDBPyConnection) -> None:
    """One text for every choice, by parameters named as people would; the result names the convention."""
    rows = [bar(0, 100.0), bar(1, 24.0), bar(2, 24.0), bar(3, 23.0)]
    rows = [row | {"prev_close": 1.0, "prev_session": None, "change_pct": 0.0} for row in rows]
    register(connection, [split(1, 4.0), dividend(3, 0.6)], rows)
    connection.register("closes", pl.DataFrame(rows, schema=ROWS))
    body = with_changes(f"({query_of('convention', 'adjusted', 'as_of', mixed=True)})")
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP MACRO prices(adjusted := 'splits_and_dividends', convention := 'crsp',
            as_of := DATE '{day(9)}') AS TABLE {body}
        """
    )

    def closes(arguments: str) -> list[float]:
        found = connection.execute(f"SELECT close FROM prices({arguments}) ORDER BY session").fetchall()
        return [pytest.approx(close, rel=EXACT) for (close,) in found]

    crsp, reinvest = 1 - 0.6 / 24, 23 / 23.6
    assert closes("") == [25 * crsp, 24 * crsp, 24 * crsp, 23]
    assert closes("convention := 'reinvest'") == [25 * reinvest, 24 * reinvest, 24 * reinvest, 23]
    assert closes("adjusted := 'splits'") == [25, 24, 24, 23]
    assert closes("adjusted := 'none', as_of := NULL") == [100, 24, 24, 23]
    assert closes(f"as_of := DATE '{day(2)}'") == [25, 24, 24, 23]
    named = "SELECT DISTINCT adjustment, dividend_convention, prices_as_of FROM prices({}) "
    assert connection.execute(named.format("")).fetchall() == [("splits_and_dividends", "crsp", day(9))]
    assert connection.execute(named.format("adjusted := 'splits'")).fetchall() == [("splits", None, day(9))]
    first = connection.execute("SELECT prev_session, prev_close, change_pct FROM prices() ORDER BY session").fetchall()
    assert first[:2] == [(None, None, None), (day(0), 25 * crsp, pytest.approx(-4.0))]


@pytest.mark.parametrize(
    ("convention", "adjust", "as_of", "message"),
    [
        ("'yahoo'", "'splits'", "DATE '2020-01-09'", "must be 'crsp' or 'reinvest', not yahoo"),
        (CRSP, "'all'", "DATE '2020-01-09'", "adjusted must be 'none', 'splits' or 'splits_and_dividends', not all"),
        (CRSP, "NULL", "DATE '2020-01-09'", "not NULL"),
        (CRSP, "'splits'", "NULL::DATE", "as_of is NULL"),
    ],
)
def test_a_wrong_choice_is_an_error(
    connection: duckdb.DuckDBPyConnection, convention: str, adjust: str, as_of: str, message: str
) -> None:
    register(connection, [dividend(1, 1.0)], [bar(0, 10.0)])
    with pytest.raises(duckdb.Error, match=message):
        connection.execute(query_of(convention, adjust, as_of)).fetchall()


def test_a_basis_needs_its_factors() -> None:
    with pytest.raises(ValueError, match="basis and basis_factors go together"):
        adjusted("bars", "factors", "'none'", "NULL", basis="adjusted_as_of")


@pytest.mark.parametrize("adjust", ["none", "splits", "splits_and_dividends"])
@pytest.mark.parametrize("actions", [[], [dividend(1, 1.0)], [dividend(8, 1.0)]])
def test_prices_are_labelled_adjusted_only_where_actions_are_known(
    connection: duckdb.DuckDBPyConnection, adjust: str, actions: list[Row]
) -> None:
    """And all rows of a series alike, those after the last ex-date too."""
    register(connection, actions, [bar(0, 10.0), bar(1, 10.0), bar(2, 10.0)])
    query = query_of(CRSP, f"'{adjust}'", f"DATE '{day(9)}'")
    labels = connection.execute(f"SELECT DISTINCT adjustment, prices_as_of, dividend_convention FROM ({query})")
    known = adjust if actions else "none"
    convention = "crsp" if known == "splits_and_dividends" else None
    assert labels.fetchall() == [(known, None if known == "none" else day(9), convention)]


def test_an_action_that_is_not_known_yet_does_not_count(connection: duckdb.DuckDBPyConnection) -> None:
    """As of is a matter of the actions given, too."""
    register(connection, [dividend(1, 1.0), dividend(2, 1.0)], [bar(0, 10.0), bar(1, 10.0), bar(2, 10.0)])
    known = factors(f"(FROM actions WHERE ex_date < DATE '{day(2)}')", "bars", CRSP)
    query = adjusted("bars", f"({known})", "'splits_and_dividends'", f"DATE '{day(9)}'")
    found = connection.execute(f"SELECT close FROM ({query}) ORDER BY session").fetchall()
    assert found == [(9.0,), (10.0,), (10.0,)]


@given(rows=row_lists)
def test_changes_are_those_between_neighbouring_closes(connection: duckdb.DuckDBPyConnection, rows: list[Row]) -> None:
    rows = [row for row in rows if row["close"] is not None]
    register(connection, [], rows)
    found = connection.execute(with_changes("bars")).pl()
    assert found.columns == list(ROWS)
    for row in found.to_dicts():
        earlier = [
            bar for bar in rows if bar["instrument_id"] == row["instrument_id"] and bar["session"] < row["session"]
        ]
        last = max(earlier, key=lambda bar: bar["session"], default=None)
        if last is None:
            assert (row["prev_session"], row["prev_close"], row["change_pct"]) == (None, None, None)
        else:
            assert (row["prev_session"], row["prev_close"]) == (last["session"], last["close"])
            change = (Fraction(row["close"]) / Fraction(last["close"]) - 1) * 100
            assert row["change_pct"] == pytest.approx(float(change), abs=1e-9)
