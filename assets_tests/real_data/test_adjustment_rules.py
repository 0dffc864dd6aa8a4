"""Adjustment and reconciliation on Alpha Vantage's own numbers: the vendor's adjusted closes from its dividends and
splits, and minute files against the official daily series, every break with its explanation.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lakehouse.domains.market.corporate_actions.adjustment import adjusted, factors
from lakehouse.domains.market.reconciliation.rules import Tolerances, TwoSeries
from lakehouse.lake.engine import connect

OFFICIAL = ["AAPL", "AMD", "AMT", "AMZN", "BA", "BAC", "FB", "GE", "IBM", "INTC", "JPM", "MSFT", "NVDA", "T", "TSLA"]
BOTH = ["AAPL", "AMD", "AMZN", "BA", "BAC", "FB", "INTC", "MSFT", "NVDA", "T", "TSLA"]
WITHOUT_OFFICIAL = ["NIO", "PDD", "QQQ"]
REINVEST = factors("actions", "official", "'reinvest'")

# Dividend of the ex-date, and the sessions that came on another basis than most of the instrument's.
LACKING = {  # ours is higher than adjusted prices are
    "BAC": (date(2020, 12, 3), [date(2020, 11, 18)]),
    "T": (date(2021, 1, 8), [date(2020, 12, day) for day in (21, 22, 23, 24)]),
}
ADJUSTED_AMONG_TRADED = {  # ours is lower than what was traded
    "MSFT": (date(2020, 11, 18), [date(2020, 11, day) for day in (6, 9, 10, 11, 12, 13, 16, 17)]),
    "NVDA": (
        date(2020, 12, 3),
        [date(2020, 11, day) for day in (19, 20, 23, 24, 25, 27, 30)] + [date(2020, 12, 1), date(2020, 12, 2)],
    ),
}
OTHERS = {
    # The close of the auction on the eve of quarterly results lies 0.7% above the last minute's trade.
    ("AAPL", date(2020, 10, 29), "close", "close"): -69.38,
    # Three cents at a price of 277, just beyond the tolerance.
    ("FB", date(2020, 12, 28), "price", "high"): -1.08,
    # The closing auction of the inclusion in the S&P 500 is in no minute bar: half of the day's volume at its high.
    ("TSLA", date(2020, 12, 18), "close", "close"): -431.80,
    ("TSLA", date(2020, 12, 18), "price", "high"): -147.48,
    ("TSLA", date(2020, 12, 18), "volume", "volume"): 0.4626,
}
DECLARED = {"as_of_download": date(2021, 1, 9), "as_of_much_later": date(2026, 11, 21), "as_traded": None}


@pytest.fixture(scope="module")
def market(shared_data: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """official (as the files say, as traded), actions, and daily (made from the minute files by rule 1)."""
    connection = connect("")
    folder = shared_data / "alphavantage"
    minutes = [str(folder / f"intraday_1min/intraday_1min_{name}.csv.gz") for name in BOTH + WITHOUT_OFFICIAL]
    connection.execute(
        f"""
        CREATE TABLE official AS
        SELECT regexp_extract(filename, 'DA-(\\w+)-T', 1) AS instrument_id, instrument_id AS symbol, 'USD' AS currency,
            timestamp::DATE AS session, open, high, low, close, adjusted_close, volume::BIGINT AS volume,
            dividend_amount, split_coefficient
        FROM read_csv('{folder}/daily_adjusted/*.csv.gz', filename => true);
        CREATE TABLE actions AS
        SELECT instrument_id, currency, session AS ex_date, 'dividend' AS kind, dividend_amount,
            NULL::DOUBLE AS split_coefficient
        FROM official WHERE dividend_amount <> 0
        UNION ALL
        SELECT instrument_id, currency, session, 'split', NULL, split_coefficient
        FROM official WHERE split_coefficient <> 1;
        -- The files' times are the exchange's own, at the end of the minute.
        CREATE TABLE daily AS
        SELECT regexp_extract(filename, '1min_(\\w+).csv', 1) AS instrument_id, instrument_id AS symbol,
            'USD' AS currency, timestamp::DATE AS session, arg_min(open, timestamp) AS open, max(high) AS high,
            min(low) AS low, arg_max(close, timestamp) AS close, sum(volume)::BIGINT AS volume
        FROM read_csv({minutes}, filename => true)
        WHERE volume > 0 AND timestamp::TIME BETWEEN '09:31' AND
            CASE WHEN timestamp::DATE IN (DATE '2020-11-27', DATE '2020-12-24') THEN '13:00' ELSE '16:00' END::TIME
        GROUP BY ALL
        """
    )
    yield connection
    connection.close()


def against_official(declared: date | None) -> TwoSeries:
    """The archive's bars, said to be adjusted as of `declared`, and the official series."""
    stated = f"DATE '{declared}'" if declared else "NULL::DATE"
    daily = f"(SELECT *, {stated} AS adjusted_as_of FROM daily)"
    return TwoSeries(daily, "official", f"({REINVEST})", Tolerances())


@pytest.mark.parametrize(
    ("convention", "rounded", "exact"),
    # GE's dividends are rounded in the file.
    [("reinvest", 1e-5, 1e-9), ("crsp", 2.5e-3, 2.5e-3)],
)
def test_the_vendors_adjusted_close(
    market: duckdb.DuckDBPyConnection, convention: str, rounded: float, exact: float
) -> None:
    query = adjusted(
        "official",
        "(" + factors("actions", "official", f"'{convention}'") + ")",
        "'splits_and_dividends'",
        "DATE '2021-04-21'",
        prices=("close",),
    )
    found = market.execute(
        f"""
        SELECT instrument_id, count(*), max(abs(close / adjusted_close - 1)) FROM ({query})
        WHERE session >= '2010-01-01' GROUP BY ALL ORDER BY ALL
        """
    ).fetchall()
    assert [name for name, _, _ in found] == OFFICIAL
    assert {rows for name, rows, _ in found if name not in ("FB", "TSLA")} == {2844}
    for name, _, difference in found:
        assert difference < (rounded if name == "GE" else exact), name
    # The convention matters: the other one is off by a thousandth.
    assert (max(difference for _, _, difference in found) > 1e-3) == (convention == "crsp")


def test_an_adjusted_volume_has_the_shares_of_today(market: duckdb.DuckDBPyConnection) -> None:
    """TSLA before its split of five for one; dividends change no volume."""
    query = adjusted("official", f"({REINVEST})", "'splits_and_dividends'", "DATE '2021-04-21'")
    pairs = market.execute(
        f"""
        SELECT traded.symbol, traded.volume, scaled.volume
        FROM official AS traded JOIN ({query}) AS scaled USING (symbol, session)
        WHERE session = '2020-08-28' AND symbol IN ('TSLA', 'INTC', 'AAPL') ORDER BY symbol
        """
    ).fetchall()
    assert [(name, after / before) for name, before, after in pairs] == [("AAPL", 4), ("INTC", 1), ("TSLA", 5)]


@pytest.mark.parametrize("declared", DECLARED.values(), ids=DECLARED)
def test_every_break_is_explained(market: duckdb.DuckDBPyConnection, declared: date | None) -> None:
    """Whatever the archive is said to be: the same sessions break, by the same amounts."""
    query = against_official(declared).breaks()
    found = {
        (row["symbol"], row["session"], row["kind"], row["field"]): row
        for row in market.execute(query).pl().iter_rows(named=True)
    }
    expected: dict[tuple[str, date, str, str], float] = dict(OTHERS)
    for cases, lacking in ((LACKING, True), (ADJUSTED_AMONG_TRADED, False)):
        for symbol, (ex_date, sessions) in cases.items():
            amount, close = market.execute(
                f"SELECT dividend_amount, close FROM official WHERE symbol = '{symbol}' AND session = '{ex_date}'"
            ).fetchone() or (0, 0)
            off = amount / close if lacking else -amount / (close + amount)
            expected |= {(symbol, session, "basis", "close"): off * 10_000 for session in sessions}
    assert found.keys() == expected.keys()
    for key, size in expected.items():
        # Adjusted prices in the files are rounded to four decimals.
        assert (found[key]["deviation_bp"] or found[key]["ratio"]) == pytest.approx(size, abs=0.01), key
    assert found["BAC", date(2020, 11, 18), "basis", "close"]["deviation_bp"] == pytest.approx(62.26, abs=0.01)
    assert found["T", date(2020, 12, 24), "basis", "close"]["deviation_bp"] == pytest.approx(179.19, abs=0.01)


def test_the_basis_that_an_archive_was_downloaded_on(market: duckdb.DuckDBPyConnection) -> None:
    """Most sessions of AAPL and INTC lack no dividend before the download and have none after it."""

    def bases(declared: date | None) -> dict[str, tuple[Any, ...]]:
        query = against_official(declared).other_bases()
        columns = "symbol, sessions, agreeing_as_declared, basis_as_of, agreeing"
        return {row[0]: row[1:] for row in market.execute(f"SELECT {columns} FROM ({query})").fetchall()}

    found = {name: bases(declared) for name, declared in DECLARED.items()}
    assert found["as_of_much_later"] == {
        "AAPL": (52, 0, date(2021, 2, 4), 52),
        "BAC": (35, 0, date(2021, 3, 3), 34),
        "INTC": (52, 0, date(2021, 2, 3), 52),
        "MSFT": (52, 0, None, 44),
        "NVDA": (52, 0, None, 43),
        "T": (13, 0, date(2021, 4, 7), 9),
    }
    # Of those that were declared rightly nothing is told.
    assert found["as_of_download"].keys() == {"MSFT", "NVDA"}
    assert found["as_traded"].keys() == {"AAPL", "BAC", "INTC", "T"}


def test_all_that_can_be_compared_is(market: duckdb.DuckDBPyConnection) -> None:
    """And nothing else: without official rows an instrument has neither comparison nor breaks."""
    query = against_official(None).compared()
    found = dict(market.execute(f"SELECT symbol, count(*) FROM ({query}) GROUP BY ALL").fetchall())
    assert found == dict.fromkeys(BOTH, 52) | {"BAC": 35, "T": 13}
    assert len(market.execute("SELECT DISTINCT symbol FROM daily").fetchall()) == len(BOTH + WITHOUT_OFFICIAL)
    apart = market.execute(
        f"""
        SELECT min(ratio), max(ratio), median(ratio) FROM ({query}) WHERE (symbol, session) <> ('TSLA', '2020-12-18')
        """
    ).fetchone()
    # What the bounds of volume leave alone: half (MSFT, INTC) on the same day, when options and futures expired and the
    # indices changed; never more than the official.
    assert apart == pytest.approx((0.4986, 0.9770, 0.8882), abs=5e-4)
