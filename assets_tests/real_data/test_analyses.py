"""The three analyses of JPM's real prices: figures on which four independent computations agree."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assets_tests.support.wiki_lake import load_prices
from lakehouse.api import Lake


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
