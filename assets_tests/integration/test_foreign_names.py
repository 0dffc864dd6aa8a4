"""Symbols, currencies and names of objects in any letters are values: they break no query, path or message."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from assets_tests.support.described import resolved
from lakehouse.api import Lake
from lakehouse.domains.market.bars.chart import read_chart
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.ingest.load import load
from lakehouse.ingest.skipped import last_skipped

DAY = date(2024, 3, 8)
# fmt: off
SYMBOLS = [
    "AAPL", "ÅÄÖ", "株式", "😀", "O'Neil", 'q"uote', "a;b", "a b", "{x}", "%s", "[red]x", "$1", "a\\b", "-rf", "NULL",
    "1,5", "A|B", "`x`", "<b>", "é", "e\u0301", "%2F", "#1", "?q", "*", "--", "'; DROP TABLE us.bars --",
]
# fmt: on
CURRENCIES = ["€", "U'SD", "usd", "\u0415UR", "😀[red]", "US D"]
UNUSABLE = [b"new\nline", b"bell\x07", b"escape\x1b[31m", b"lat\xe9"]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BarSource:
    folder = tmp_path / "vendor"
    folder.mkdir()
    monkeypatch.setenv("LAKEHOUSE_US_URL", str(folder))

    def put(name: bytes, currency: str) -> None:
        path = os.path.join(os.fsencode(folder), name + b"_2024-03-08.csv")
        Path(os.fsdecode(path)).write_text(
            f"ts,open,high,low,close,volume,currency\n2024-03-08 09:30,10,11,9,10.5,100,{currency}\n"
        )

    for symbol in SYMBOLS:
        put(symbol.encode(), "USD")
    for number, currency in enumerate(CURRENCIES):
        put(b"REFUSED%d" % number, currency)
    for name in UNUSABLE:
        put(name, "USD")
    return resolved(
        SourceConfig.model_validate(
            {
                "source": "us",
                "description": "Symbols in the names of files",
                "venue": {
                    "mic": "XNYS", "name": "New York", "country": "US", "time_zone": "America/New_York",
                    "currency": "USD",
                },
                "calendar": "XNYS",
                "first_session": "2024-01-02",
                "bars": {
                    "objects": {"pattern": r"(?P<symbol>[^/]+)_(?P<date>\d{4}-\d{2}-\d{2})\.csv", "holds": "day"},
                    "format": "csv",
                    "time": {"columns": ["ts"], "format": "%Y-%m-%d %H:%M", "zone": "America/New_York"},
                    "columns": {name: name for name in ("open", "high", "low", "close", "volume", "currency")},
                    "named": {"instrument_id": "symbol", "symbol": "symbol"},
                },
            }
        )
    )  # fmt: skip


def test_every_symbol_has_its_daily_bar_and_its_chart(source: BarSource) -> None:
    lake = Lake.open()
    loaded = load(lake, source.bars, [DAY])
    derive_bars(lake, source, [DAY])
    derive_daily_bars(lake, source, [DAY])

    assert (loaded.rows_received, loaded.rows_quarantined) == (len(SYMBOLS) + len(CURRENCIES), len(CURRENCIES))
    assert sorted(lake.table("us/daily_bars").to_polars()["symbol"]) == sorted(SYMBOLS)
    reasons = {str(reason) for found in lake.table("quarantine").to_polars()["reasons"] for reason in found}
    assert reasons == {"currency is not an ISO 4217 currency code"}
    for symbol in SYMBOLS:
        assert read_chart(lake, [source], symbol, DAY, DAY).daily["symbol"].to_list() == [symbol]
    # Loading again takes nothing in.
    assert load(lake, source.bars, [DAY]).rows_received == 0


def test_names_that_cannot_be_shown_are_counted_and_named_in_print(source: BarSource) -> None:
    load(Lake.open(), source.bars, [DAY])
    (skipped,) = last_skipped(Lake.open(), "us")
    assert skipped.objects == len(UNUSABLE)
    assert str(skipped).isprintable()
    assert any("lat\\xe9" in example for example in skipped.examples)
