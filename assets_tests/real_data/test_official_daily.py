"""Alpha Vantage's official daily series through the lake: the files as they are, and the vendor's adjusted closes from
its dividends and splits.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from assets_tests.support.served_files import ServedFiles
from assets_tests.support.vendor_lake import KEY, SOURCE, VendorLake, vendor_lake
from lakehouse.simulators.vendor_api import VendorApi

OFFICIAL = ("AAPL", "AMD", "AMT", "AMZN", "BA", "BAC", "FB", "GE", "IBM", "INTC", "JPM", "MSFT", "NVDA", "T", "TSLA")
END = date(2021, 4, 21)


@pytest.fixture(scope="module")
def official(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VendorLake]:
    """The whole official series, as asked for on 2021-04-21 after the close; no bars."""
    api = VendorApi(ServedFiles(shared_data / "alphavantage"), api_key=KEY, clock=datetime(2021, 4, 22, 1, tzinfo=UTC))
    with vendor_lake(tmp_path_factory.mktemp("vendor"), api, (*OFFICIAL, "BF.B")) as lake:
        assert list(lake.load_official().errors) == ["official_daily/BF.B"]
        lake.derive([])
        yield lake


@pytest.fixture
def official_lake(official: VendorLake, monkeypatch: pytest.MonkeyPatch) -> VendorLake:
    official.use(monkeypatch)
    return official


def queried(lake: VendorLake, query: str) -> list[tuple[Any, ...]]:
    found = lake.lake.sql(query)
    assert found is not None
    return found.fetchall()


def test_the_vendors_adjusted_close(official_lake: VendorLake) -> None:
    found = queried(
        official_lake,
        f"""
        SELECT symbol, count(*), max(abs(close / adjusted_close - 1))
        FROM {SOURCE}.adjusted_official_daily(convention := 'reinvest', as_of := DATE '{END}')
        WHERE session >= '2010-01-01' GROUP BY ALL ORDER BY ALL
        """,
    )
    assert tuple(symbol for symbol, *_ in found) == OFFICIAL
    assert {count for symbol, count, _ in found if symbol not in ("FB", "TSLA")} == {2844}
    for symbol, _, difference in found:
        # GE's dividends are rounded in the vendor's own file.
        assert difference < (1e-5 if symbol == "GE" else 1e-9), symbol
    by_crsp = queried(
        official_lake,
        f"""
        SELECT max(abs(close / adjusted_close - 1))
        FROM {SOURCE}.adjusted_official_daily(as_of := DATE '{END}') WHERE session >= '2010-01-01'
        """,
    )
    assert 1e-3 < by_crsp[0][0] < 2.5e-3


def test_the_series_are_the_files(official_lake: VendorLake, shared_data: Path) -> None:
    stored = {
        (row["symbol"], row["session"]): row
        for row in official_lake.rows(f"{SOURCE}.official_daily").iter_rows(named=True)
    }
    actions = {
        (row["symbol"], row["ex_date"], row["kind"]): row["dividend_amount"] or row["split_coefficient"]
        for row in official_lake.rows(f"{SOURCE}.corporate_actions").iter_rows(named=True)
    }
    wanted_actions, rows = {}, 0
    for symbol in OFFICIAL:
        (path,) = (shared_data / "alphavantage" / "daily_adjusted").glob(f"DA-{symbol}-T-*.csv.gz")
        with gzip.open(path, "rt", newline="") as lines:
            for row in csv.DictReader(lines):
                rows += 1
                session = date.fromisoformat(row.pop("timestamp"))
                found = stored[symbol, session]
                assert {name: float(found[name]) for name in row} == {name: float(text) for name, text in row.items()}
                if float(row["dividend_amount"]):
                    wanted_actions[symbol, session, "dividend"] = float(row["dividend_amount"])
                if float(row["split_coefficient"]) != 1:
                    wanted_actions[symbol, session, "split"] = float(row["split_coefficient"])
    assert rows == len(stored)
    assert actions == wanted_actions
    assert actions["AAPL", date(2020, 8, 31), "split"] == 4
    assert actions["TSLA", date(2020, 8, 31), "split"] == 5
