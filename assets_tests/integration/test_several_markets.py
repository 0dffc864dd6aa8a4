"""One source with several markets: a consolidated file of US listings, each row with the code of its market."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from pydantic import ValidationError

from assets_tests.integration.test_cli import said
from assets_tests.support.described import resolved
from assets_tests.support.reference_lake import take
from lakehouse import catalog
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.domains.market.bars.venues import contradictions
from lakehouse.ingest.load import load
from lakehouse.settings import settings
from lakehouse.simulators.market_register import MarketRegister

MONDAY, TUESDAY = date(2024, 3, 4), date(2024, 3, 5)
DEFS = yaml.safe_load(r"""
type: lakehouse.components.MarketSource
attributes:
  source: tape
  description: Minute bars of US listings
  venue: {mic: XNYS, name: New York Stock Exchange, country: US, time_zone: America/New_York, currency: USD}
  venues:
    - {mic: XNAS, name: Nasdaq}
    - {mic: ARCX, name: NYSE Arca}
  calendar: XNYS
  first_session: 2024-03-01
  bars:
    objects:
      pattern: (?P<date>\d{8})\.csv
      date_format: "%Y%m%d"
      holds: day
    format: csv
    time: {columns: [minute], format: "%Y-%m-%d %H:%M", zone: America/New_York}
    columns: {instrument_id: ticker, symbol: ticker, mic: listed, open: o, high: h, low: l, close: c, volume: v}
    values: {mic: {N: XNYS, Q: XNAS, P: ARCX}}
""")
HEADER = "ticker,listed,minute,o,h,l,c,v"


def row(ticker: str, listed: str, day: date, minute: str, price: float) -> str:
    return f"{ticker},{listed},{day} {minute},{price},{price},{price},{price},100"


FILES = {
    MONDAY: [
        row("IBM", "N", MONDAY, "09:30", 10.0),
        row("AAPL", "Q", MONDAY, "09:30", 20.0),
        row("SPY", "P", MONDAY, "09:30", 30.0),
        row("MOVES", "Q", MONDAY, "15:59", 40.0),
        row("BOND", "Z", MONDAY, "09:30", 50.0),
        row("BLANK", "", MONDAY, "09:30", 60.0),
    ],
    TUESDAY: [row("IBM", "N", TUESDAY, "09:30", 11.0), row("MOVES", "N", TUESDAY, "09:30", 41.0)],
}
MARKETS = {
    ("IBM", MONDAY): "XNYS",
    ("AAPL", MONDAY): "XNAS",
    ("SPY", MONDAY): "ARCX",
    ("MOVES", MONDAY): "XNAS",
    ("IBM", TUESDAY): "XNYS",
    ("MOVES", TUESDAY): "XNYS",
}


@pytest.fixture
def feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The vendor's folder."""
    folder = tmp_path / "tape"
    folder.mkdir()
    for day, rows in FILES.items():
        (folder / f"{day:%Y%m%d}.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    monkeypatch.setenv("LAKEHOUSE_TAPE_URL", str(folder))
    path = tmp_path / "own" / "tape" / "defs.yaml"
    path.parent.mkdir(parents=True)
    # A third of the first object is refused, more than a run accepts otherwise.
    path.write_text(yaml.safe_dump(DEFS, sort_keys=False) + "  refusals: {warn_pct: 50, fail_pct: 90}\n")
    monkeypatch.setenv("LAKEHOUSE_DEFS", str(path.parents[1]))
    settings.cache_clear()
    catalog._described.cache_clear()
    return folder


def described(**changes: Any) -> SourceConfig:
    return SourceConfig.model_validate(DEFS["attributes"] | changes)


def loaded() -> tuple[Lake, BarSource]:
    """The lake with what the vendor delivered."""
    source, lake, days = resolved(described()), Lake.open(), [MONDAY, TUESDAY]
    load(lake, source.bars, days)
    derive_bars(lake, source, days)
    derive_daily_bars(lake, source, days)
    return lake, source


def finding(lake: Lake, source: BarSource, name: str) -> str:
    (check,) = (check for check in source.checks if check.name == name)
    found = check.run(lake, source, None)
    return "" if found.passed else found.summary


def test_markets__reach_the_daily_bars_and_unknown_ones_the_quarantine(feed: Path) -> None:
    lake, source = loaded()
    for table in ("bars", "daily_bars"):
        rows = lake.table(f"tape/{table}").to_polars().select("instrument_id", "session", "mic").rows()
        assert {(ticker, day): mic for ticker, day, mic in rows} == MARKETS
    refused = lake.table("quarantine").to_polars().select("row_number", "reasons").sort("row_number").rows()
    reason = "the market (mic) is not one of XNYS, XNAS, ARCX"
    assert refused == [(5, [reason]), (6, [reason])]
    assert finding(lake, source, "one_market_per_bar") == ""
    assert finding(lake, source, "markets_registered") == ""


def test_markets__are_looked_up_in_the_register(feed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register = MarketRegister(tmp_path / "register")
    for mic in ("XNYS", "ARCX"):
        register.add(mic, MONDAY)
    register.change("ARCX", STATUS="EXPIRED", EXPIRY_DATE="20240101")
    register.publish(MONDAY)
    register.write(MONDAY)
    monkeypatch.setenv("LAKEHOUSE_MIC_URL", str(register.folder))
    settings.cache_clear()
    take("mic")
    source = resolved(described())
    (check,) = (check for check in source.checks if check.name == "markets_registered")
    found = check.run(Lake.open(), source, None)
    assert not found.passed
    assert found.rows == [
        {"mic": "XNAS", "status": "not in the register"},
        {"mic": "ARCX", "status": "EXPIRED"},
    ]


def test_markets__of_one_bar_in_one_object_are_an_error(feed: Path) -> None:
    path = feed / f"{MONDAY:%Y%m%d}.csv"
    path.write_text(path.read_text() + row("IBM", "P", MONDAY, "09:30", 10.5) + "\n")
    lake, source = loaded()
    assert finding(lake, source, "one_market_per_bar").startswith(
        "1 bar is from several markets in one object: give each market's bars an instrument_id of their own"
    )


def test_markets__reach_the_marts(feed: Path) -> None:
    said("backfill", "tape", "--from", str(MONDAY), "--to", str(TUESDAY), code=0)
    with duckdb.connect(str(settings().warehouse), read_only=True) as marts:

        def rows(query: str) -> list[tuple[Any, ...]]:
            return marts.execute(query).fetchall()

        bars = rows("SELECT instrument_id, session, mic FROM marts.fct_daily_bar WHERE source = 'tape'")
        assert {(ticker, day): mic for ticker, day, mic in bars} == MARKETS
        assert rows("SELECT mic, name, country FROM marts.dim_venue WHERE mic IN ('ARCX', 'XNAS') ORDER BY 1") == [
            ("ARCX", "NYSE Arca", "US"),
            ("XNAS", "Nasdaq", "US"),
        ]
        versions = rows("SELECT mic, valid_from FROM marts.dim_instrument WHERE instrument_id = 'MOVES' ORDER BY 2")
        assert versions == [("XNAS", MONDAY), ("XNYS", TUESDAY)]
        hours = "SELECT open_at, close_at FROM marts.dim_session WHERE session = '2024-03-04' AND mic = '{}'"
        assert rows(hours.format("XNAS")) == rows(hours.format("XNYS")) != []


def test_a_source_with_one_market_has_no_such_column() -> None:
    xetra = source_named("xetra")
    assert not any("mic" in xetra.contract(table).column_names for table in ("raw_bars", "bars", "daily_bars"))
    assert not any(check.name == "one_market_per_bar" for check in xetra.checks)


BARS = DEFS["attributes"]["bars"]
MISTAKES = {
    "other sessions": (
        {"venues": [{"mic": "XLON", "name": "London"}]},
        "venues: XLON (calendar XLON) has other sessions than XNYS (calendar XNYS), and a source has one calendar",
    ),
    "other sessions as the YAML says": (
        {"venues": [{"mic": "XCBF", "name": "Cboe Futures", "calendar": "us_futures"}]},
        "XCBF (calendar us_futures) has other sessions than XNYS",
    ),
    "twice": ({"venues": [{"mic": "XNYS", "name": "Again"}]}, "venue and venues name XNYS more than once"),
    "no column": (
        {"bars": BARS | {"columns": {name: of for name, of in BARS["columns"].items() if name != "mic"}, "values": {}}},
        "venues: bars give no mic; map it to a column of the object",
    ),
    "no venues": ({"venues": []}, "bars give a mic: name the markets besides XNYS in `venues`"),
    "codes of a number": ({"bars": BARS | {"values": {"open": {"N": "1"}}}}, "values: open is no text"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_config__refuses(mistake: str) -> None:
    changes, words = MISTAKES[mistake]
    with pytest.raises(ValidationError) as refused:
        described(**changes)
    assert words in str(refused.value)


def test_contradictions__are_found_in_further_markets() -> None:
    other = described(source="other", venues=[{"mic": "XNAS", "name": "NASDAQ"}])
    assert contradictions("tape", {"tape": described(), "other": other}) == {
        "other": "XNAS differently: name 'Nasdaq' and 'NASDAQ'. The marts show what other says"
    }
