"""A real history of WIKI Prices through the lake: its rows as they are, and the vendor's adjusted closes from its
dividends and splits.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.ingest.load import load

ROWS, FIRST, LAST = 8631, date(1983, 12, 30), date(2018, 3, 27)


@pytest.fixture
def lake(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """The history, loaded and derived."""
    folder = shared_data / "prices"
    if not folder.is_dir():
        pytest.skip("no real market data: ../shared/data/prices is absent")
    monkeypatch.setenv("LAKEHOUSE_WIKI_URL", str(folder))
    opened, source = Lake.open(), source_named("wiki")
    assert source.official_daily is not None
    loaded = load(opened, source.official_daily, [])
    assert (loaded.rows_received, loaded.rows_quarantined) == (ROWS, 0)
    for table in source.tables:
        table.derive(opened, source, [])
    return opened


def by_hand(vendor: pl.DataFrame) -> pl.DataFrame:
    """The adjusted closes from the vendor's own dividends and splits, latest day first: the factor of a day holds for
    the days before it.
    """
    close, dividend = pl.col("Close"), pl.col("Ex-Dividend")
    factor = close / (close + dividend) / pl.col("Split Ratio")
    return vendor.sort("Date", descending=True).with_columns(adjusted=close * factor.cum_prod().shift(1).fill_null(1.0))


def test_the_rows_and_the_adjusted_closes_are_the_vendors(lake: Lake, shared_data: Path) -> None:
    vendor = by_hand(pl.read_csv(shared_data / "prices" / "jpm.csv.gz", try_parse_dates=True)).sort("Date")
    daily = lake.table("wiki/official_daily").to_polars().sort("session")
    assert (daily.height, daily["session"][0], daily["session"][-1]) == (ROWS, FIRST, LAST)
    assert set(daily["instrument_id"]) == {"JPM"}
    for ours, theirs in {"session": "Date", "open": "Open", "close": "Close", "adjusted_close": "Adj. Close"}.items():
        assert daily[ours].to_list() == vendor[theirs].to_list()
    assert daily["volume"].cast(pl.Float64).to_list() == vendor["Volume"].to_list()
    kinds = lake.table("wiki/corporate_actions").to_polars()["kind"].value_counts()
    assert dict(kinds.iter_rows()) == {"dividend": 126, "split": 3}

    def closes(convention: str) -> pl.Series:
        macro = f"wiki.adjusted_official_daily(convention := '{convention}', as_of := DATE '{LAST}')"
        found = lake.sql(f"SELECT close FROM {macro} ORDER BY session")
        assert found is not None
        return found.pl()["close"]

    # The vendor adjusts by the second of the two conventions, as Alpha Vantage does; by the first, some 120 dividends
    # add up to a difference of half a percent.
    reinvested = closes("reinvest")
    for other in (vendor["adjusted"], vendor["Adj. Close"]):
        assert (reinvested / other - 1).abs().max() < 1e-11  # type: ignore[operator]
    differences = (closes("crsp") / vendor["Adj. Close"] - 1).abs()
    assert 1e-3 < differences.max() < 1e-2  # type: ignore[operator]
    assert lake.sql("FROM lake.quarantine").fetchall() == []  # type: ignore[union-attr]
