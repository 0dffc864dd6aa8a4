"""What a run tells of the lineage of what it wrote: to Dagster, and as OpenLineage events."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from assets_tests.support.exchange_lake import ExchangeLake
from lakehouse.settings import settings

SESSION = date(2024, 3, 26)


def test_a_run_tells_columns_and_events(
    exchange_lake: ExchangeLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = tmp_path / "events.jsonl"
    monkeypatch.setenv("LAKEHOUSE_OPENLINEAGE_URL", str(events))
    settings.cache_clear()
    exchange_lake.exchange.write(exchange_lake.feed)
    with dg.DagsterInstance.ephemeral() as instance:
        ran = exchange_lake.run(instance, SESSION, SESSION)
    assert ran.success
    found = [event.materialization for event in ran.get_asset_materialization_events()]
    written = {each.asset_key: each for each in found}

    def deps(*key: str) -> dict[str, set[str]]:
        lineage = written[dg.AssetKey(key)].metadata["dagster/column_lineage"].value
        assert isinstance(lineage, dg.TableColumnLineage)
        return {
            column: {f"{each.asset_key.to_user_string()}/{each.column_name}" for each in found}
            for column, found in lineage.deps_by_column.items()
        }

    assert deps("xetra", "daily_bars")["close"] == {"xetra/bars/close"}
    assert deps("xetra", "daily_bars")["turnover"] == {"xetra/bars/close", "xetra/bars/volume"}
    assert "xetra/daily_bars/close" in deps("marts", "fct_daily_bar")["close"]
    assert deps("marts", "returns")["session"] == {"marts/fct_daily_bar/session"}
    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert {event["eventType"] for event in told} == {"START", "COMPLETE"}
    names = {event["job"]["name"] for event in told}
    assert {"xetra.raw_bars", "xetra.bars", "xetra.daily_bars", "marts.fct_daily_bar"} <= names
    (raw,) = [each for each in told if each["job"]["name"] == "xetra.raw_bars" and each["eventType"] == "COMPLETE"]
    assert [each["name"] for each in raw["inputs"]] == ["outside.xetra.bars"]
