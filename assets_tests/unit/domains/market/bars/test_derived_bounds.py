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
from lakehouse.domains.market.bars.suspect import suspect_bars
from lakehouse.domains.market.corporate_actions import rules as official
from lakehouse.domains.market.corporate_actions.adjustment import adjusted, factors, with_changes
from lakehouse.domains.market.quotes import rules as windows
from lakehouse.lake.contract import Contract
from lakehouse.lake.engine import connect
from lakehouse.lake.validation import broken_rules, good, predicates_of

SESSIONS = [date(2020, 11, 2), date(2020, 11, 3), date(2020, 11, 4)]
AT = datetime(2020, 11, 5, tzinfo=UTC)
PRICES = [5e-324, 1e-320, 1e-300, 1e-13, 1e-12, 1e-9, 0.01, 1.0, 1e6, 9.99e14, 1e15, 1e300]
VOLUMES = [0.0, 5e-324, 1e-18, 0.5, 1.0, 1e17, 9.99e17, 1e18, 1e300]
TRADES = [0, 1, 10**6, 2**63 - 1]
FACTORS = [1e-320, 1e-7, 1e-6, 0.1, 1.0, 2.0, 1e6, 1e7, 1e300]
price = st.one_of(st.sampled_from(PRICES), st.floats(0, 1e300))
any_price = st.one_of(price, price.map(lambda value: -value), st.just(0.0))
FLAT = {"close": 1.0, "volume": 1.0, "trades": 1, "vwap": None}
volume = st.one_of(st.sampled_from(VOLUMES), st.floats(0, 1e18))


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
                "row_number": number, "published_at": AT, "ingested_at": AT,
                **dict.fromkeys(("open", "high", "low"), value["close"]), **value,
            }
        )  # fmt: skip
    return rows


BAR = {
    "close": any_price,
    "volume": volume,
    "trades": st.one_of(st.none(), st.sampled_from(TRADES)),
    "vwap": st.one_of(st.none(), any_price),
}


@given(
    values=st.lists(st.fixed_dictionaries(BAR), min_size=1, max_size=6),
    negative_prices=st.booleans(),
    has_volumes=st.booleans(),
)
@example(values=[FLAT | {"close": 1e-320}, FLAT, FLAT, FLAT], negative_prices=False, has_volumes=True)
@example(values=[FLAT | {"close": 0.0}, FLAT | {"close": 0.0}, FLAT, FLAT], negative_prices=True, has_volumes=True)
@example(values=[FLAT | {"close": 1e-12}] * 2 + [FLAT | {"close": 9e14}] * 2, negative_prices=False, has_volumes=True)
@example(values=[FLAT | {"close": 1e-12, "vwap": 1e-12, "volume": 1e17}] * 2, negative_prices=False, has_volumes=True)
@example(values=[FLAT | {"trades": 2**63 - 1}] * 2, negative_prices=False, has_volumes=True)
def test_daily_bars_of_accepted_bars_keep_their_contract(
    values: list[dict[str, Any]], negative_prices: bool, has_volumes: bool, connection: duckdb.DuckDBPyConnection
) -> None:
    config = source_named("alpha_vantage")
    described = config.bars_config
    if not has_volumes:
        values = [value | {"volume": None} for value in values]
        columns = {name: column for name, column in described.columns.items() if name != "volume"}
        described = described.model_copy(update={"volume": "none", "columns": columns})
    config = changed(config, negative_prices=negative_prices, bars=described)
    rows = accepted(connection, config.contract("raw_bars"), bar_rows(values))
    made = rows.with_columns(
        pl.lit("regular").alias("segment"), (pl.col("volume") > 0).fill_null(True).alias("is_traded")
    )
    connection.register("bars", made.select(contract_of("bars").column_names).to_arrow())
    assert broken(connection, config.contract("bars"), "FROM bars") == {}
    connection.register("complete", all_came(SESSIONS).to_arrow())
    connection.execute(f"CREATE OR REPLACE TEMP TABLE daily AS {bars.daily('bars', 'complete', 'America/New_York')}")
    assert broken(connection, config.contract("daily_bars"), bars.with_previous("daily", "daily")) == {}
    unlinked = (
        "(SELECT *, NULL::DATE AS prev_session, NULL::DOUBLE AS prev_close, NULL::DOUBLE AS change_pct FROM daily)"
    )
    assert broken(connection, config.contract("daily_bars"), with_changes(unlinked)) == {}
    traded = "(FROM bars WHERE is_traded)"
    assert connection.execute(daily_differences("daily", traded)).fetchall() == []
    changes = connection.execute(
        f"SELECT change_pct FROM ({bars.with_previous('daily', 'daily')}) WHERE prev_close <= 0"
    ).fetchall()
    assert all(change is None for (change,) in changes)
    judged = connection.execute(suspect_bars("bars")).pl()["deviation_pct"].drop_nulls()
    assert judged.is_finite().all()


DAILY = {
    "close": price,
    "adjusted_close": st.one_of(st.none(), price),
    "volume": volume,
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
    assert broken(connection, contract_of("official_daily").model_copy(update={"rules": ()}), query) == {}


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
