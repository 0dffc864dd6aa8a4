"""Xetra's public data of 2017-06-20 to 2017-07-14: the numbers that a correct lake makes of it.

The daily bars are computed a second time here, from the files, with the standard library alone.
"""

from __future__ import annotations

import csv
import gzip
import math
import random
from collections import defaultdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets_tests.support.described import with_bars
from assets_tests.support.soak import soak_count
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.ingest.load import load

FIRST, LAST = date(2017, 6, 20), date(2017, 7, 14)
KEY = ["instrument_id", "currency", "session"]
TABLES = ("xetra/raw_bars", "xetra/bars", "xetra/daily_bars", "ingest_ledger", "quarantine")


@pytest.fixture(scope="module")
def xetra(shared_data: Path) -> BarSource:
    """The source as it is configured, its objects in the folder of real data."""
    source = source_named("xetra")
    objects = source.config.bars.objects
    assert objects is not None
    return with_bars(source, objects=objects.model_copy(update={"url": str(shared_data / "xetra_pds")}))


def run(lake: Lake, source: BarSource, sessions: list[date]) -> tuple[int, int]:
    loaded = load(lake, source.bars, sessions)
    derive_bars(lake, source, sessions)
    derive_daily_bars(lake, source, sessions)
    return loaded.rows_received, loaded.rows_quarantined


def sessions_of(source: BarSource) -> list[date]:
    return source.calendar.between(FIRST, LAST)


@pytest.fixture(scope="module")
def lake(xetra: BarSource, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The lake after one load and derivation of the whole range."""
    made = Lake(str(tmp_path_factory.mktemp("xetra") / "lake"))
    assert run(made, xetra, sessions_of(xetra)) == (623_082, 2_455)
    return made


@pytest.fixture(scope="module")
def daily(lake: Lake) -> dict[tuple[str, str, date], dict[str, Any]]:
    rows = lake.table("xetra/daily_bars").to_polars().iter_rows(named=True)
    return {(row["instrument_id"], row["currency"], row["session"]): row for row in rows}


def test_totals(lake: Lake) -> None:
    stored = lake.sql(
        "SELECT count(*), count(DISTINCT instrument_id), sum(volume)::BIGINT, sum(trades)::BIGINT FROM xetra.daily_bars"
    ).fetchone()
    assert stored == (13_722, 1_966, 1_285_745_866, 3_204_740)


def test_every_session_reaches_its_close(lake: Lake, xetra: BarSource) -> None:
    """Neither by its own bars nor by the sessions before does any liquid instrument end early."""
    check = next(check for check in xetra.checks if check.name == "session_reaches_close")
    assert check.run(lake, xetra, None).passed
    assert lake.table("xetra/daily_bars").to_polars()["is_complete"].null_count() == 0


def test_hours_add_up_to_the_daily_bars(lake: Lake) -> None:
    differing = lake.sql(
        """
        SELECT count(*) FROM (
            SELECT instrument_id, currency, session, sum(volume) AS volume, sum(bar_count) AS bar_count,
                max(high) AS high, arg_max(close, start_at) AS close, arg_min(open, start_at) AS open
            FROM xetra.bars(interval := '1h') WHERE segment = 'regular' GROUP BY ALL
        ) AS hours FULL JOIN xetra.daily_bars AS daily USING (instrument_id, currency, session)
        WHERE (hours.volume, hours.bar_count, hours.high, hours.close, hours.open)
            IS DISTINCT FROM (daily.volume, daily.bar_count, daily.high, daily.close, daily.open)
        """
    )
    assert differing is not None
    assert differing.fetchall() == [(0,)]


def test_every_row_is_accounted_for(lake: Lake) -> None:
    rows = lake.sql("SELECT * FROM lake.conservation").fetchall()
    assert {row[:2] for row in rows} == {("xetra", "bars")}
    assert all(received == sum(fates) for _, _, _, received, *fates in rows)
    sums = [sum(column) for column in list(zip(*rows, strict=True))[3:]]
    assert sums == [623_082, 623_082 - 2_455, 0, 0, 2_455]


def test_the_bars_of_two_saturdays_are_quarantined(lake: Lake) -> None:
    found = lake.sql(
        "SELECT object[:10], session, reasons, count(*) FROM lake.quarantine GROUP BY ALL ORDER BY 1"
    ).fetchall()
    reasons = ["the day is no session of XETR"]
    assert found == [("2017-06-24", date(2017, 6, 26), reasons, 246), ("2017-07-01", date(2017, 7, 3), reasons, 2_209)]


def test_a_header_is_no_trade_and_a_missing_object_is_missing_data(lake: Lake, shared_data: Path) -> None:
    ledger = lake.table("ingest_ledger").to_polars()
    files = {f"{path.parent.name}/{path.name}" for path in (shared_data / "xetra_pds").glob("*/*.csv.gz")}
    assert set(ledger["object"]) == files
    assert set(ledger["status"]) == {"loaded", "empty"}
    assert "2017-06-29/2017-06-29_BINS_XETR18.csv.gz" not in set(ledger["object"])
    assert ledger.filter(pl.col("status") == "empty")["rows_received"].sum() == 0


def test_bmw(daily: dict) -> None:
    row = daily["DE0005190003", "EUR", date(2017, 7, 12)]
    names = ("bar_count", "open", "high", "low", "close", "volume", "trades")
    assert [row[name] for name in names] == [506, 83.29, 84.78, 83.26, 84.34, 1_555_265, 8_569]


def test_grenkes_close_is_its_last_trade(daily: dict) -> None:
    """Later on 2017-07-07 stands a reference price of 69.3, already divided by the split of the next session."""
    assert daily["DE000A161N30", "EUR", date(2017, 7, 7)]["close"] == 207.85


def test_metro_keeps_its_series_under_another_ticker(daily: dict) -> None:
    before, after = (daily["DE0007257503", "EUR", date(2017, 7, day)] for day in (12, 13))
    assert (before["symbol"], after["symbol"]) == ("MEO", "CEC")
    assert (after["prev_session"], after["prev_close"]) == (date(2017, 7, 12), before["close"])
    assert after["change_pct"] == (after["close"] / before["close"] - 1) * 100
    assert after["change_pct"] < -50


def test_exx7_is_not_pulled_down_by_its_evening_bar(lake: Lake, daily: dict) -> None:
    (row,) = (row for key, row in daily.items() if row["symbol"] == "EXX7" and key[2] == LAST)
    assert row["low"] > 15
    evening = lake.sql(
        "SELECT close, is_traded, segment FROM xetra.bars WHERE symbol = 'EXX7' AND session = '2017-07-14' AND close < 4"  # noqa: E501
    ).fetchall()
    assert evening == [(3.181, False, "post")]


def test_a_second_run_leaves_every_table_as_it_was(lake: Lake, xetra: BarSource) -> None:
    versions = [lake.table(name).snapshot().version for name in TABLES]
    assert run(lake, xetra, sessions_of(xetra)) == (0, 0)
    assert [lake.table(name).snapshot().version for name in TABLES] == versions


@pytest.mark.soak
def test_sessions_in_any_order_give_the_same(lake: Lake, xetra: BarSource, tmp_path: Path) -> None:
    """In three random shares; one by one in a soak."""
    other, sessions = Lake(str(tmp_path / "lake")), sessions_of(xetra)
    shuffled, runs = random.Random(20170714).sample(sessions, len(sessions)), soak_count(3, len(sessions))
    for start in range(runs):
        run(other, xetra, sorted(shuffled[start::runs]))
    made = [each.table("xetra/daily_bars").to_polars().sort(KEY) for each in (other, lake)]
    assert_frame_equal(*made, check_exact=True)
    key = ["instrument_id", "currency", "start_at"]
    bars = [each.table("xetra/bars").to_polars().drop("ingested_at").sort(key) for each in (other, lake)]
    assert_frame_equal(*bars, check_exact=True)


def test_as_of_now_is_now(lake: Lake, daily: dict, xetra: BarSource, monkeypatch: pytest.MonkeyPatch) -> None:
    past = Lake(lake.uri, as_of=datetime.now(UTC))
    derived = past.sql("SELECT * FROM xetra.daily_bars").pl().sort(KEY)
    assert_frame_equal(derived, lake.table("xetra/daily_bars").to_polars().sort(KEY), check_exact=True)


def test_daily_bars_are_those_of_the_standard_library(daily: dict, shared_data: Path) -> None:
    # Xetra trades from 07:00 to 15:30 UTC in summer, and its auction's bars carry up to 15:39.
    groups: dict[tuple[str, str, date], list[tuple[Any, ...]]] = defaultdict(list)
    for path in (shared_data / "xetra_pds").glob("*/*.csv.gz"):
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                if int(row["TradedVolume"]) > 0 and "07:00" <= row["Time"] < "15:40":
                    groups[row["ISIN"], row["Currency"], date.fromisoformat(row["Date"])].append(
                        (row["Time"], *(float(row[f"{name}Price"]) for name in ("Start", "Max", "Min", "End")),
                         int(row["TradedVolume"]), int(row["NumberOfTrades"]), row["Mnemonic"], row["SecurityDesc"])
                    )  # fmt: skip
    assert daily.keys() == {key for key in groups if FIRST <= key[2] <= LAST}
    last: dict[tuple[str, str], tuple[date, float]] = {}
    for key in sorted(daily, key=lambda key: key[2]):
        rows, stored = sorted(groups[key]), daily[key]
        wanted = (rows[0][1], max(row[2] for row in rows), min(row[3] for row in rows), rows[-1][4])
        assert tuple(stored[name] for name in ("open", "high", "low", "close")) == wanted
        assert (stored["volume"], stored["trades"]) == (sum(row[5] for row in rows), sum(row[6] for row in rows))
        assert (stored["bar_count"], stored["symbol"], stored["name"]) == (len(rows), *rows[-1][7:])
        assert [f"{stored[name]:%H:%M}" for name in ("first_bar_at", "last_bar_at")] == [rows[0][0], rows[-1][0]]
        assert math.isclose(stored["turnover"], math.fsum(row[4] * row[5] for row in rows), rel_tol=1e-12)
        prev_session, prev_close = last.get(key[:2], (None, None))
        assert (stored["prev_session"], stored["prev_close"]) == (prev_session, prev_close)
        change = None if prev_close is None else (wanted[3] / prev_close - 1) * 100
        assert stored["change_pct"] == change
        last[key[:2]] = (key[2], wanted[3])
