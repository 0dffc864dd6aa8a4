"""Every vendor that ships as YAML loads invented bars of the vendor's shape into the daily bars that they amount to."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from assets_tests.conftest import PROJECT_ROOT
from assets_tests.support.described import resolved
from assets_tests.support.scripted_vendor import running
from assets_tests.support.vendor_shapes import APIS, DAYS, FILES, MARKETS, NAMED, US, Market, ShapedServer, put
from lakehouse.api import Lake
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.ingest.load import load
from lakehouse.settings import settings

VENDORS = PROJECT_ROOT / "lakehouse" / "vendors"
KEYS = ("APCA_API_KEY_ID", "TIINGO_API_KEY", "EODHD_API_TOKEN")


def config_of(name: str) -> SourceConfig:
    return SourceConfig.model_validate(yaml.safe_load((VENDORS / f"{name}.yaml").read_text())["attributes"])


def source_of(name: str, monkeypatch: pytest.MonkeyPatch) -> BarSource:
    settings.cache_clear()
    source = resolved(config_of(name))
    monkeypatch.setattr("lakehouse.catalog.sources", lambda _=None: {source.name: source})
    return source


def assert_amounts_to(market: Market, name: str, source: BarSource) -> None:
    """Loads and derives the days; the daily bars are those of the invented bars, and no row is refused."""
    lake = Lake.open()
    load(lake, source.bars, list(DAYS))
    derive_bars(lake, source, list(DAYS))
    derive_daily_bars(lake, source, list(DAYS))
    frame = lake.table(f"{name}/daily_bars").to_polars()
    called = NAMED.get(name, lambda symbol: symbol)
    found = {(row[0], row[1]): row[2:] for row in frame.select(
        "instrument_id", "session", "open", "high", "low", "close", "volume"
    ).rows()}  # fmt: skip
    bars = market.bars(source.bars_config.interval_length)
    assert found == {(called(symbol), day): values for (symbol, day), values in market.daily(bars).items()}
    assert lake.table("quarantine").to_polars().is_empty()
    assert set(frame["currency"]) == {"USD"}
    assert frame["is_complete"].all()
    findings = {check.name: check.run(lake, source, list(DAYS)) for check in source.checks if check.table == "bars"}
    assert [check for check, finding in findings.items() if not finding.passed and check == "labels_fit_hours"] == []


def test_every_shipped_vendor_is_tested() -> None:
    shipped = {path.stem: yaml.safe_load(path.read_text())["type"] for path in VENDORS.glob("*.yaml")}
    assert {name for name, kind in shipped.items() if kind.endswith(".MarketSource")} == {*FILES, *APIS}


@pytest.mark.parametrize("name", FILES)
def test_files_in_a_vendors_shape_become_its_daily_bars(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    market, folder = MARKETS.get(name, US), tmp_path / "vendor"
    put(folder, FILES[name](market.bars(config_of(name).bars.interval_length)))
    monkeypatch.setenv(f"LAKEHOUSE_{name.upper()}_URL", str(folder))
    assert_amounts_to(market, name, source_of(name, monkeypatch))


@pytest.mark.parametrize("name", APIS)
def test_answers_in_a_vendors_shape_become_its_daily_bars(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    market, api, config = MARKETS.get(name, US), APIS[name](), config_of(name)
    api.bars = market.bars(config.bars.interval_length)
    called = NAMED.get(name, lambda symbol: symbol)
    for key in KEYS:
        monkeypatch.setenv(key, "the-key")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "the-secret")
    monkeypatch.setenv(f"LAKEHOUSE_{name.upper()}_SYMBOLS", ",".join(called(symbol) for symbol in market.symbols))
    with running(ShapedServer(api)) as server:
        monkeypatch.setenv(f"LAKEHOUSE_{name.upper()}_URL", f"{server.place}{urlsplit(config.api.url).path}")
        assert_amounts_to(market, name, source_of(name, monkeypatch))
    pages = 8 if name == "alpaca" else 2
    assert len(api.asked) >= pages
    assert all("ticker" not in asked.query and "product" not in asked.query for asked in api.asked)
