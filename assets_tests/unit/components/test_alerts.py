"""Alerts: what is told, where to, and how often."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.api import Lake
from lakehouse.components.alerts import Alert, alerts_sensor, send, stale_assets, tick
from lakehouse.components.checks import record_results
from lakehouse.settings import settings
from lakehouse.sinks import SinkFault

NOW = datetime.now(UTC)
WINDOW = timedelta(minutes=2)


@dg.op
def broken() -> None:
    raise dg.Failure("the vendor's quota is used up")


@dg.job
def some_update() -> None:
    broken()


@dg.asset(key=["iex", "quotes"], freshness_policy=dg.FreshnessPolicy.time_window(fail_window=WINDOW))
def quotes() -> None:
    """An asset that has to be fresh."""


GRAPH = dg.Definitions(assets=[quotes]).resolve_asset_graph()


def fail(instance: dg.DagsterInstance) -> str:
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    return some_update.execute_in_process(
        instance=instance, raise_on_error=False, tags={"dagster/partition": "2024-03-04"}, run_config=quiet
    ).run_id


def store_check(lake: Lake, run_id: str, *, passed: bool) -> None:
    result = dg.AssetCheckResult(
        passed=passed,
        asset_key=["xetra", "raw_bars"],
        check_name="objects_readable",
        description="1 object could not be read",
    )
    record_results(lake, [result], run_id, "2024-03-04")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that is told."""
    path = tmp_path / "alerts.jsonl"
    monkeypatch.setenv("LAKEHOUSE_ALERTS", str(path))
    settings.cache_clear()
    return path


def told(file: Path) -> list[str]:
    return [json.loads(line)["text"] for line in file.read_text().splitlines()] if file.exists() else []


def test_tick__tells_of_each_run_check_and_stale_asset_once(instance: dg.DagsterInstance, file: Path) -> None:
    lake, start = Lake.present(), datetime.now(UTC)
    fail(instance)
    # What failed before the first look is not told.
    cursor = str(tick(lake, instance, GRAPH, None, datetime.now(UTC)))
    assert told(file) == []

    run = fail(instance)
    store_check(lake, "1", passed=False)
    instance.report_runless_asset_event(dg.AssetMaterialization(["iex", "quotes"]))
    later = start + 2 * WINDOW
    cursor = str(tick(lake, instance, GRAPH, cursor, later))
    by_run, by_check, by_age = told(file)
    assert by_run == (f"some_update failed over 2024-03-04 to 2024-03-04\nthe vendor's quota is used up\nRun {run}")
    assert by_check == "check objects_readable of xetra.raw_bars fails\n1 object could not be read"
    assert by_age.startswith("iex/quotes is stale\nIt was updated last at ")

    store_check(lake, "2", passed=False)
    cursor = str(tick(lake, instance, GRAPH, cursor, later))
    assert len(told(file)) == 3
    # It passes, and fails anew.
    store_check(lake, "3", passed=True)
    cursor = str(tick(lake, instance, GRAPH, cursor, later))
    store_check(lake, "4", passed=False)
    tick(lake, instance, GRAPH, cursor, later)
    assert told(file)[3:] == [by_check]


def test_tick__tells_a_sink_that_was_away_later(
    instance: dg.DagsterInstance, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "away" / "alerts.jsonl"
    monkeypatch.setenv("LAKEHOUSE_ALERTS", f"{file} {other}")
    settings.cache_clear()
    lake = Lake.present()
    cursor = str(tick(lake, instance, GRAPH, None, NOW))
    fail(instance)
    cursor = str(tick(lake, instance, GRAPH, cursor, NOW))
    assert len(told(file)) == 1
    other.parent.mkdir()
    cursor = str(tick(lake, instance, GRAPH, cursor, NOW))
    tick(lake, instance, GRAPH, cursor, NOW)
    assert (len(told(file)), len(told(other))) == (1, 1)


def test_stale_assets__are_those_that_were_fresh_once(instance: dg.DagsterInstance) -> None:
    assert stale_assets(instance, GRAPH, NOW + timedelta(days=9)) == []
    instance.report_runless_asset_event(dg.AssetMaterialization(["iex", "quotes"]))
    made = datetime.now(UTC)
    assert stale_assets(instance, GRAPH, made + WINDOW - timedelta(seconds=30)) == []
    assert len(stale_assets(instance, GRAPH, made + WINDOW + timedelta(seconds=30))) == 1


def test_send__refuses_what_is_no_sink() -> None:
    with pytest.raises(SinkFault, match="LAKEHOUSE_ALERTS is 'ftp://host', which is no sink"):
        send([Alert("a", "b", "c", NOW)], "ftp://host", ())


def test_document__is_a_text_alone_for_slack() -> None:
    assert Alert("a", "b", "<c> & 'd'", NOW, is_for_slack=True).document == {"text": "b\n&lt;c&gt; &amp; 'd'"}
    assert Alert("a", "b", "c", NOW).document["key"] == "a"


def test_alerts_sensor__says_what_to_set(instance: dg.DagsterInstance) -> None:
    skipped = alerts_sensor(dg.build_sensor_context(instance=instance))
    assert isinstance(skipped, dg.SkipReason)
    assert "set LAKEHOUSE_ALERTS" in str(skipped.skip_message)
