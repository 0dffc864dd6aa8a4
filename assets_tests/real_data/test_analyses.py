"""The three analyses of JPM's real prices: figures on which four independent computations agree."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from typer.testing import CliRunner

from assets_tests.support.exchange_lake import code_location
from assets_tests.support.wiki_lake import load_prices
from lakehouse.analyses.functions import trading
from lakehouse.api import Lake
from lakehouse.cli.app import app

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")


@pytest.fixture
def lake(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    folder = shared_data / "prices"
    if not folder.is_dir():
        pytest.skip("no real market data: ../shared/data/prices is absent")
    return load_prices(folder, monkeypatch)


def figures(lake: Lake, name: str) -> dict[str, dict[str, Any]]:
    run = lake.analyses.run(name, {"ticker": "JPM"}).run
    return {key: dict(about["figures"]) for key, about in run.outputs.items()}


def test_raw_visualization__shows_the_whole_history(lake: Lake) -> None:
    found = figures(lake, "raw_visualization")
    assert list(found) == ["data", "dates", "price", "fig"]
    assert found["dates"] == {"rows": 8631, "first": "1983-12-30", "last": "2018-03-27"}
    assert found["price"]["sum"] == pytest.approx(418_318.0156, abs=1e-6)
    assert found["fig"] == {"lines": 1, "points": 8631}


def test_test_period__cuts_three_years(lake: Lake) -> None:
    found = figures(lake, "test_period")
    assert list(found) == ["data", "dates", "price", "datesSliced", "priceSliced", "fig"]
    assert found["priceSliced"]["rows"] == 756
    assert found["priceSliced"]["sum"] == pytest.approx(31_006.8114, abs=1e-6)
    prices = lake.analyses.results("test_period", "priceSliced")
    rows = dict(zip(prices["date"], prices["value"], strict=True))
    assert (rows[date(2007, 1, 3)], rows[date(2009, 12, 31)]) == (48.07, 41.62)
    assert min(rows.items(), key=lambda row: row[1]) == (date(2009, 3, 9), 15.90)
    assert max(rows.items(), key=lambda row: row[1]) == (date(2007, 5, 9), 53.20)


def test_sma_crossover__signals_eighteen_changes(lake: Lake) -> None:
    figures(lake, "sma_crossover")
    short, long, cross = (
        lake.analyses.results("sma_crossover", key) for key in ("shortSMA", "longSMA", "crossSMA")
    )  # fmt: skip
    for series, first, day, value in (
        (short, 14, date(2007, 1, 24), 48.515333),
        (long, 49, date(2007, 3, 15), 49.5086),
        (cross, 50, date(2007, 3, 16), -1),
    ):
        valid = series.drop_nulls("value")
        assert (valid["position"][0], valid["date"][0]) == (first, day)
        assert valid["value"][0] == pytest.approx(value, abs=5e-7)
        assert valid["position"].to_list() == list(range(first, 756))
    signals = cross.drop_nulls("value")
    assert signals.height == 706
    assert dict(signals["value"].value_counts().iter_rows()) == {1.0: 324, -1.0: 382}
    assert signals["value"].sum() == -58
    last = [series["value"][-1] for series in (short, long, cross)]
    assert last == [pytest.approx(41.406, abs=1e-9), pytest.approx(42.487, abs=1e-9), -1]
    changes = signals.filter(pl.col("value").diff().fill_null(0) != 0).select("date", "value").rows()
    assert len(changes) == 18
    assert changes[:3] == [(date(2007, 4, 20), 1), (date(2007, 6, 13), -1), (date(2007, 9, 25), 1)]
    assert changes[-1] == (date(2009, 11, 9), -1)


def test_sma_backtest__earns_the_known_returns_without_costs(lake: Lake) -> None:
    made = lake.analyses.run("sma_backtest", {"ticker": "JPM"}).made
    prices, signal = made["priceSliced"], made["crossSMA"]
    for positions, total, deepest in (
        (trading.long_short(signal), -0.802961, -0.853817),
        (trading.long_flat(signal), -0.338906, -0.570624),
        (trading.buy_and_hold(signal), -0.134179, -0.701128),
    ):
        equity = trading.equity(prices, positions)
        assert trading.total_return(equity) == pytest.approx(total, abs=5e-7)
        assert trading.drawdown(equity)["value"].min() == pytest.approx(deepest, abs=5e-7)
    assert made["totalReturn"] == pytest.approx(-0.802961, abs=5e-7)
    assert made["heldReturn"] == pytest.approx(-0.134179, abs=5e-7)
    # 17 reversals and the first position, each thousandth of what is traded.
    assert made["netReturn"] < made["totalReturn"]


def test_fingerprints__are_equal_by_command_in_dagster_and_from_python(lake: Lake) -> None:
    by_command = CliRunner().invoke(app, ["analyses", "run", "sma_crossover", "--set", "ticker=JPM"])
    assert by_command.exit_code == 0, by_command.output
    lake.analyses.run("sma_crossover", {"ticker": "JPM"})
    job = dg.define_asset_job("crossover", selection=dg.AssetSelection.key_prefixes(["analyses", "sma_crossover"]))
    definitions = dg.Definitions.merge(code_location(), dg.Definitions(jobs=[job]))
    assert definitions.resolve_job_def("crossover").execute_in_process().success
    found = lake.analyses.runs("sma_crossover")
    assert len(found) == 3
    assert all(each.fingerprints == found[0].fingerprints for each in found)
    assert len({each.result_id for each in found}) == 1
