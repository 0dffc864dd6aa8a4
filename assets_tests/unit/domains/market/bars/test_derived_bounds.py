"""No accepted row makes a derived value that breaks its own contract: the bounds of the raw contracts are tight enough
for every sum, change and adjustment that is made of the rows that pass them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assets_tests.support.described import changed, contract_of
from assets_tests.support.whole_sessions import all_came
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars import rules as bars
from lakehouse.domains.market.bars.sanity import daily_differences
from lakehouse.domains.market.corporate_actions import rules as official
from lakehouse.domains.market.corporate_actions.adjustment import adjusted, factors, with_changes
from lakehouse.domains.market.quotes import rules as windows
from lakehouse.lake.contract import Contract
from lakehouse.lake.engine import connect
from lakehouse.lake.validation import broken_rules, good, predicates_of

SESSIONS = [date(2020, 11, 2), date(2020, 11, 3), date(2020, 11, 4)]
AT = datetime(2020, 11, 5, tzinfo=UTC)
PRICES = [5e-324, 1e-320, 1e-300, 1e-13, 1e-12, 1e-9, 0.01, 1.0, 1e6, 9.99e14, 1e15, 1e300]
QUANTITIES = [0, 1, 10**6, 10**14 - 1, 10**14, 2**63 - 1]
FACTORS = [1e-320, 1e-7, 1e-6, 0.1, 1.0, 2.0, 1e6, 1e7, 1e300]
price = st.one_of(st.sampled_from(PRICES), st.floats(0, 1e300))
any_price = st.one_of(price, price.map(lambda value: -value), st.just(0.0))
FLAT = {"close": 1.0, "volume": 1, "vwap": None}
BAR = {"close": price, "volume": st.sampled_from(QUANTITIES), "vwap": st.one_of(st.none(), price)}


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect("") as opened:
        yield opened


def accepted(connection: duckdb.DuckDBPyConnection, contract: Contract, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Those of the rows that pass the raw contract, in its columns."""
    schema = pl.Schema(contract.arrow_schema)
    frame = pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)
    connection.register("given", frame.to_arrow())
    rules = predicates_of(contract, connection, "given")
    return connection.execute(f"SELECT * FROM given WHERE {good(rules)}").pl()


def broken(connection: duckdb.DuckDBPyConnection, contract: Contract, query: str) -> dict[str, int]:
    connection.execute(f"CREATE OR REPLACE TEMP TABLE derived AS {query}")
    return broken_rules(predicates_of(contract, connection, "derived"), connection, "derived")


def bar_rows(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One-minute bars of one instrument, two a session."""
    rows = []
    for number, value in enumerate(values):
        start = datetime.combine(SESSIONS[number // 2], datetime.min.time(), UTC) + timedelta(hours=10, minutes=number)
        rows.append(
            {
                "instrument_id": "AAPL", "currency": "USD", "interval": "1min", "session": SESSIONS[number // 2],
                "start_at": start, "end_at": start + timedelta(minutes=1), "object": "o", "object_version": "v",
                "row_number": number, "published_at": AT, "ingested_at": AT, "trades": value["volume"],
                **dict.fromkeys(("open", "high", "low"), value["close"]), **value,
            }
        )  # fmt: skip
    return rows


@given(
    values=st.lists(st.fixed_dictionaries({**BAR, "close": any_price}), min_size=1, max_size=6),
    negative_prices=st.booleans(),
    volume_unit=st.sampled_from([1.0, 1e-8]),
)
@example(values=[FLAT | {"close": 1e-320}, FLAT, FLAT, FLAT], negative_prices=False, volume_unit=1.0)
@example(values=[FLAT | {"close": 0.0}, FLAT | {"close": 0.0}, FLAT, FLAT], negative_prices=True, volume_unit=1.0)
@example(values=[FLAT | {"close": 1e-12}] * 2 + [FLAT | {"close": 9.9e14}] * 2, negative_prices=False, volume_unit=1.0)
def test_daily_bars_of_accepted_bars_keep_their_contract(
    values: list[dict[str, Any]], negative_prices: bool, volume_unit: float, connection: duckdb.DuckDBPyConnection
) -> None:
    config = changed(source_named("alpha_vantage"), negative_prices=negative_prices)
    rows = accepted(connection, config.contract("raw_bars"), bar_rows(values))
    made = rows.with_columns(pl.lit("regular").alias("segment"), (pl.col("volume") > 0).alias("is_traded"))
    connection.register("bars", made.select(contract_of("bars").column_names).to_arrow())
    assert broken(connection, config.contract("bars"), "FROM bars") == {}
    connection.register("complete", all_came(SESSIONS).to_arrow())
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE daily AS {bars.daily('bars', 'complete', 'America/New_York', volume_unit)}"
    )
    assert broken(connection, config.contract("daily_bars"), bars.with_previous("daily", "daily")) == {}
    unlinked = (
        "(SELECT *, NULL::DATE AS prev_session, NULL::DOUBLE AS prev_close, NULL::DOUBLE AS change_pct FROM daily)"
    )
    assert broken(connection, config.contract("daily_bars"), with_changes(unlinked)) == {}


@pytest.mark.parametrize("step_us", [1_000_000, 1_000, 1])
def test_volumes_near_their_bound_in_as_many_bars_as_a_day_can_have_do_not_overflow(
    step_us: int, connection: duckdb.DuckDBPyConnection
) -> None:
    """100,000 bars of one instrument with 10^14 shares each, a microsecond apart, were accepted, and daily bars raised.
    By now there is a bound for each fineness of time."""
    start = datetime(2020, 11, 2, 15, tzinfo=UTC) + timedelta(microseconds=step_us)
    quantities = [10**power - 1 for power in range(1, 19)]
    rows = [
        row | {"start_at": start, "row_number": number}
        for number, quantity in enumerate(quantities)
        for row in bar_rows([FLAT | {"volume": quantity}])
    ]
    largest = accepted(connection, contract_of("raw_bars"), rows)["volume"].max()
    assert isinstance(largest, int)
    at_seconds = (10**14 - 1) * 90_000
    assert largest * (90_000 * 1_000_000 // step_us) + (0 if step_us == 1_000_000 else at_seconds) < 2**63


def test_sums_of_volumes_beyond_64_bits_break_the_contract_and_do_not_raise(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    """Bars that a lake holds from a release without bounds."""
    frame = pl.DataFrame(bar_rows([FLAT | {"volume": 2**62}] * 2 + [FLAT] * 2))
    made = frame.with_columns(segment=pl.lit("regular"), is_traded=True, is_adjusted=pl.lit(None, pl.Boolean)).select(
        pl.col("*"), *[pl.lit(None, pl.String).alias(name) for name in ("symbol", "name", "instrument_type")]
    )
    connection.register("bars", made.with_columns(pl.col("vwap").cast(pl.Float64)).to_arrow())
    connection.register("complete", all_came(SESSIONS).to_arrow())
    connection.execute(f"CREATE OR REPLACE TEMP TABLE daily AS {bars.daily('bars', 'complete', 'UTC')}")
    assert connection.execute("SELECT volume, trades, bar_count FROM daily ORDER BY session").fetchall() == [
        (None, None, 2), (2, 2, 2),
    ]  # fmt: skip
    assert broken(connection, contract_of("daily_bars"), bars.with_previous("daily", "daily")) == {"volume_present": 1}
    assert connection.execute(daily_differences("daily", "bars")).fetchall()[0][-1] == "values differ"


DAILY = {
    "close": price,
    "adjusted_close": st.one_of(st.none(), price),
    "volume": st.sampled_from(QUANTITIES),
    "dividend_amount": st.one_of(st.none(), st.just(0.0), price),
    "split_coefficient": st.one_of(st.none(), st.sampled_from(FACTORS)),
}


@given(
    values=st.lists(st.fixed_dictionaries(DAILY), min_size=1, max_size=3),
    convention=st.sampled_from(["crsp", "reinvest"]),
)
def test_adjusted_prices_of_accepted_daily_rows_are_finite(
    values: list[dict[str, Any]], convention: str, connection: duckdb.DuckDBPyConnection
) -> None:
    """What the vendor says of splits and dividends becomes corporate actions, factors, and adjusted prices."""
    config = source_named("alpha_vantage")
    given = [
        {
            "year": session.replace(month=1, day=1), "instrument_id": "AAPL", "currency": "USD", "session": session,
            "object": "o", "object_version": "v", "row_number": number, "published_at": AT, "ingested_at": AT,
            **dict.fromkeys(("open", "high", "low"), value["close"]), **value,
        }
        for number, (session, value) in enumerate(zip(SESSIONS, values, strict=False))
    ]  # fmt: skip
    rows = accepted(connection, config.contract("raw_daily"), given)
    connection.register("raw", rows.to_arrow())
    connection.execute(
        """
        CREATE OR REPLACE TEMP TABLE ledger AS SELECT
            'o' AS object, 'v' AS object_version, 1::BIGINT AS sequence, 'r' AS reading, 'loaded' AS status,
            TIMESTAMPTZ '2020-11-05 00:00:00+00' AS published_at, TIMESTAMPTZ '2020-11-05 00:00:00+00' AS ingested_at,
            [{'part': DATE '2020-01-01', 'rows': 3, 'digest': '', 'object_version': 'v'}] AS parts
        """
    )
    daily = official.official_daily("raw", "ledger")
    assert broken(connection, config.contract("official_daily"), daily) == {}
    actions = official.corporate_actions("raw", "ledger")
    assert broken(connection, config.contract("corporate_actions"), actions) == {}
    made = factors(f"({actions})", f"({daily})", f"'{convention}'")
    query = adjusted(f"({daily})", f"({made})", "'splits_and_dividends'", "DATE '2020-11-04'")
    # A volume that a BIGINT can't hold on the wanted basis is NULL.
    assert set(broken(connection, contract_of("official_daily").model_copy(update={"rules": ()}), query)) <= {
        "volume_present"
    }


QUOTE = st.one_of(st.just(0.0), price)


@given(prices=st.lists(QUOTE, min_size=1, max_size=6))
@example(prices=[1e-320, 1.0])
@example(prices=[1e-12, 9.9e11])
def test_windows_of_accepted_quotes_keep_their_contract(
    prices: list[float], connection: duckdb.DuckDBPyConnection
) -> None:
    end = datetime(2020, 11, 4, 12, 0, 5, tzinfo=UTC)
    given = [
        {
            "symbol": "AAPL", "latest_price": value, "event_time": end - timedelta(seconds=50 - number),
            "day": SESSIONS[2], "published_at": AT, "ingested_at": AT,
        }
        for number, value in enumerate(prices)
    ]  # fmt: skip
    quotes = accepted(connection, contract_of("quotes"), given)
    connection.register("quotes", quotes.to_arrow())
    connection.register("ends", pl.DataFrame({"window_end": [end]}).to_arrow())
    minute, period = timedelta(minutes=1), timedelta(seconds=10)
    rule = windows.WindowRule((minute,), period, timedelta(seconds=5), timedelta())
    found = windows.windows_at(f"({windows.panes('quotes', rule)})", "ends", rule)
    query = f"SELECT *, window_end::DATE AS day, 1 AS revision, window_end AS closed_at FROM ({found})"
    assert broken(connection, contract_of("quote_windows"), query) == {}
