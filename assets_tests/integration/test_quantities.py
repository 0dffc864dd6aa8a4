"""Vendors' quantities and units from file to chart: fractional volumes, volumes beyond any bound in units, no
volumes, and prices in pence or billionths.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from assets_tests.support.described import changed, resolved
from assets_tests.support.old_lake import KLINES, put_klines
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.cli.plot import draw
from lakehouse.derive.evaluation import conservation_totals
from lakehouse.derive.rebuild import rebuild
from lakehouse.domains.market.bars.chart import read_chart
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.ingest.load import LoadResult, load

DAYS = [date(2024, 3, 7), date(2024, 3, 8)]
COLUMNS = {name: name for name in ("open", "high", "low", "close", "volume")}
FRACTIONS = {
    DAYS[0]: ["09:30,170,171,169,170.5,1000", "09:31,170.5,172,170,171,2000"],
    DAYS[1]: ["09:30,170,171,169,170.5,1000", "09:31,170.5,172,170,171,2000.5", "15:59,171,175,171,174,90000.25"],
}


def vendor(folder: Path, **bars: Any) -> BarSource:
    """A vendor of US shares, its minutes in a file a symbol and day. It goes by the name of a source of the project, so
    that the lake knows its tables.
    """
    config = SourceConfig.model_validate(
        {
            "source": "xetra",
            "description": "minutes of US shares",
            "venue": {
                "mic": "XNYS",
                "name": "New York Stock Exchange",
                "country": "US",
                "time_zone": "America/New_York",
                "currency": "USD",
            },
            "calendar": "XNYS",
            "first_session": "2024-01-02",
            "bars": {
                "objects": {
                    "url": str(folder),
                    "pattern": r"(?P<symbol>[^/]+)_(?P<date>\d{4}-\d{2}-\d{2})\.csv",
                    "holds": "day",
                },
                "format": "csv",
                "time": {"columns": ["day", "time"], "format": "%Y-%m-%d %H:%M", "zone": "America/New_York"},
                "columns": COLUMNS,
                "constants": {"currency": "USD"},
                "named": {"instrument_id": "symbol", "symbol": "symbol"},
            }
            | bars,
        }
    )
    return resolved(config)


def put(
    folder: Path, files: dict[date, list[str]], names: str = "open,high,low,close,volume", symbol: str = "X"
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for day, lines in files.items():
        rows = "".join(f"{day},{line}\n" for line in lines)
        (folder / f"{symbol}_{day}.csv").write_text(f"day,time,{names}\n{rows}")


def take(lake: Lake, source: BarSource, days: list[date]) -> LoadResult:
    """Loads and derives the days; no check that holds anything back fails, and a rebuild gives the same."""
    loaded = load(lake, source.bars, days)
    for table in source.tables:
        table.derive(lake, source, days)
    found = {check.name: check.run(lake, source, days) for check in source.checks if check.blocking}
    assert {name: finding.summary for name, finding in found.items() if not finding.passed} == {}
    for check in source.checks:
        check.run(lake, source, days)
    assert not rebuild(lake, source, verify=True).differs
    assert conservation_totals(lake, source, days, "as described")["received"] == loaded.rows_received
    return loaded


def daily(lake: Lake, columns: str, table: str = "xetra.daily_bars") -> list[tuple[Any, ...]]:
    found = lake.sql(f"SELECT {columns} FROM {table} ORDER BY symbol, session")
    assert found is not None
    return found.fetchall()


def test_fractional_shares_lose_no_price(tmp_path: Path) -> None:
    put(tmp_path / "us", FRACTIONS, symbol="AAPL")
    lake, source = Lake.open(), vendor(tmp_path / "us")
    assert take(lake, source, DAYS).rows_quarantined == 0
    assert daily(lake, "symbol, session, open, high, low, close, volume, bar_count") == [
        ("AAPL", DAYS[0], 170, 172, 169, 171, 3000, 2),
        ("AAPL", DAYS[1], 170, 175, 169, 174, 93_000.75, 3),
    ]
    chart = read_chart(lake, [source], "AAPL", DAYS[1], DAYS[1])
    assert chart.figures["Volume"] == "93,000.75"
    assert chart.bars is not None
    assert chart.bars["volume"].to_list() == [1000, 2000.5, 90000.25]
    assert read_chart(lake, [source], "AAPL", *DAYS).figures["Volume"] == "96,000.75"


def test_minutes_of_more_coins_than_fit_a_count_of_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_BINANCE_URL", str(tmp_path))
    put_klines(tmp_path)
    lake, source = Lake.open(), source_named("binance")
    days = sorted({day for _, day in KLINES})
    assert take(lake, source, days).rows_quarantined == 0
    columns = "symbol, open, high, low, close, volume, bar_count"
    assert daily(lake, columns, "binance.daily_bars")[2:] == [
        ("DOGEUSDT", 0.316, 0.33, 0.3, 0.325, 6_400_000, 3),
        ("PEPEUSDT", 0.00002001, 0.0000201, 0.0000199, 0.00002005, 96_035_802_467, 2),
    ]


def test_a_source_without_volumes_has_every_bar_counted(tmp_path: Path) -> None:
    lines = ["09:30,1.08,1.09,1.07,1.085", "09:31,1.085,1.1,1.08,1.09", "15:59,1.09,1.095,1.06,1.0625"]
    files = dict.fromkeys(DAYS, lines)
    put(tmp_path / "fx", files, "open,high,low,close", symbol="EURUSD")
    columns = {name: name for name in COLUMNS if name != "volume"}
    lake, source = Lake.open(), vendor(tmp_path / "fx", columns=columns, volume="none")
    assert take(lake, source, DAYS).rows_quarantined == 0
    found = lake.sql("SELECT DISTINCT volume, is_traded FROM xetra.bars")
    assert found is not None
    assert found.fetchall() == [(None, True)]
    row = (1.08, 1.1, 1.06, 1.0625, None, None, None, 3)
    assert daily(lake, "open, high, low, close, volume, turnover, vwap, bar_count") == [row, row]
    assert daily(lake, "close, volume, change_pct", "xetra.adjusted_daily_bars()") == [
        (1.0625, None, None),
        (1.0625, None, 0.0),
    ]
    for days in (DAYS[1:], DAYS):
        chart = read_chart(lake, [source], "EURUSD", days[0], days[-1])
        assert chart.figures["Volume"] == "none"
        assert chart.figures["Close"] == "1.0625"
        assert draw(chart).axes


def test_a_daily_series_without_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_WIKI_URL", str(tmp_path))
    rows = ["2024-03-07,100,101,99,100.5,0,1,100.5", "2024-03-08,100.5,102,100,101,0,1,101"]
    header = "Date,Open,High,Low,Close,Ex-Dividend,Split Ratio,Adj. Close"
    (tmp_path / "dax.csv").write_text("".join(f"{line}\n" for line in (header, *rows)))
    source = source_named("wiki")
    described = source.config.official_daily
    assert described is not None
    columns = {name: column for name, column in described.columns.items() if name != "volume"}
    source = changed(source, official_daily=described.model_copy(update={"volume": "none", "columns": columns}))
    assert source.official_daily is not None
    lake = Lake.open()
    assert load(lake, source.official_daily, DAYS).rows_quarantined == 0
    for table in source.tables:
        table.derive(lake, source, DAYS)
    for check in source.checks:
        assert check.run(lake, source, None).passed, check.name
    assert daily(lake, "close, volume", "wiki.official_daily") == [(100.5, None), (101.0, None)]
    assert daily(lake, "close, volume", "wiki.adjusted_official_daily()") == [(100.5, None), (101.0, None)]


@pytest.mark.parametrize(
    ("unit", "currency", "shift"), [(1e-9, "USD", 10**9), (0.01, "GBP", 100)], ids=["billionths", "pence"]
)
def test_prices_in_other_units_are_in_the_currency(unit: float, currency: str, shift: int, tmp_path: Path) -> None:
    prices = ["170.01,171.07,169.03,170.51", "170.51,172.29,170.03,171.17"]
    counted = [",".join(str(round(float(price) * shift)) for price in line.split(",")) for line in prices]
    put(tmp_path / "units", {DAYS[0]: [f"09:3{place},{line},100" for place, line in enumerate(counted)]})
    lake, source = Lake.open(), vendor(tmp_path / "units", price_unit=unit, constants={"currency": currency})
    assert take(lake, source, DAYS[:1]).rows_quarantined == 0
    assert daily(lake, "currency, open, high, low, close, volume") == [
        (currency, 170.01, 172.29, 169.03, 171.17, 200.0)
    ]


def test_a_price_with_an_unreadable_or_negative_volume_is_refused_and_said(tmp_path: Path) -> None:
    """What is no quantity is a fault of the row, whatever its prices are; how many rows it costs is seen."""
    put(tmp_path / "us", {DAYS[0]: [*FRACTIONS[DAYS[0]], "09:32,1,1,1,1,", "09:33,1,1,1,1,-5", "09:34,1,1,1,1,1 000"]})
    lake, source = Lake.open(), vendor(tmp_path / "us")
    assert load(lake, source.bars, DAYS[:1]).rows_quarantined == 3
    reasons = [list(each) for each in lake.table("quarantine").to_polars().sort("row_number")["reasons"]]
    missing = "volume is missing or not a double"
    assert reasons == [[missing], ["volume is negative"], [missing]]


def test_extreme_prices_of_a_spread_make_daily_bars_that_keep_their_contract(tmp_path: Path) -> None:
    """Zero and negative prices, tiny and huge ones with volumes at their bound: accepted, and everything follows."""
    lines = {
        DAYS[0]: ["09:30,0,0,0,0,1e17", "09:31,-1e-12,1e-12,-1e-12,-1e-12,1e17", "09:32,-9e14,9e14,-9e14,-9e14,9e17"],
        DAYS[1]: ["09:30,9e14,9e14,-9e14,9e14,9e17", "09:31,1e-12,1e-12,1e-12,1e-12,5e-324"],
    }
    put(tmp_path / "spread", lines)
    lake = Lake.open()
    source = changed(vendor(tmp_path / "spread"), negative_prices=True)
    assert take(lake, source, DAYS).rows_quarantined == 0
    assert daily(lake, "close, prev_close, change_pct") == [(-9e14, None, None), (1e-12, -9e14, None)]
    adjusted = "xetra.adjusted_daily_bars(adjusted := 'none')"
    assert daily(lake, "close, prev_close, change_pct", adjusted)[1] == (1e-12, -9e14, None)
    for days in (DAYS[1:], DAYS):
        assert "%" not in read_chart(lake, [source], "X", days[0], days[-1]).figures["Change"]
