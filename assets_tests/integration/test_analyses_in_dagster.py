"""Analyses as assets: materialized whole or in part, run by a job from the lake's rows, updated by automation."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from assets_tests.support.exchange_lake import code_location
from assets_tests.support.wiki_lake import load_prices, write_invented
from lakehouse.analyses.spec import definition_of
from lakehouse.api import Lake
from lakehouse.components.analyses import asset_key

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
NAME, TABLE = "sma_crossover", dg.AssetKey(["wiki", "official_daily"])


@pytest.fixture
def lake(own_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    write_invented(tmp_path / "prices", "JPM")
    return load_prices(tmp_path / "prices", monkeypatch)


def execute(selection: dg.AssetSelection, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = dg.define_asset_job("some", selection=selection)
    definitions = dg.Definitions.merge(code_location(), dg.Definitions(jobs=[job]))
    return definitions.resolve_job_def("some").execute_in_process(instance=instance)


def test_assets__have_the_fingerprints_of_python_and_show_figures_and_the_chart(lake: Lake) -> None:
    from_python = lake.analyses.run(NAME).run
    with dg.DagsterInstance.ephemeral() as instance:
        group = dg.AssetSelection.key_prefixes(["analyses", NAME])
        result = execute(group, instance)
        found = {event.asset_key: event.materialization for event in result.get_asset_materialization_events()}
        assert set(found) == {asset_key(NAME, key) for key in from_python.outputs}
        versions = {key.path[-1]: str(each.metadata["fingerprint"].value) for key, each in found.items()}
        assert versions == from_python.fingerprints
        assert found[asset_key(NAME, "price")].metadata["last"].value == "2008-04-10"
        assert found[asset_key(NAME, "crossSMA")].metadata["values"].value == 320 - 50
        picture = str(found[asset_key(NAME, "fig")].metadata["picture"].value)
        assert picture.startswith("![Crossover of two moving averages](data:image/png;base64,")

        part = execute(dg.AssetSelection.assets(asset_key(NAME, "longSMA")), instance)
        (event,) = part.get_asset_materialization_events()
        assert event.asset_key == asset_key(NAME, "longSMA")
    assert len({run.result_id for run in lake.analyses.runs(NAME)}) == 1

    graph = code_location().resolve_asset_graph()
    assert graph.get(asset_key(NAME, "data")).parent_keys == {TABLE}
    assert graph.get(asset_key(NAME, "crossSMA")).parent_keys == {
        asset_key(NAME, "longSMA"),
        asset_key(NAME, "shortSMA"),
    }
    codes = {key: graph.get(asset_key(NAME, key)).code_version for key in ("longSMA", "shortSMA")}
    assert codes["longSMA"] != codes["shortSMA"]


def test_run_analysis__runs_rows_of_the_lake_without_a_reload(lake: Lake) -> None:
    location = code_location()
    rows = [
        *(row.as_dict() for row in lake.analyses.get("test_period").rows[:-1]),
        {"order": 9, "funcPath": "ta.roc", "inputKeys": "priceSliced", "kwargs": {"window": 5}, "outputKeys": "roc"},
    ]
    lake.analyses.add(definition_of("my_rates", rows, lake.analyses.get("test_period").inputs))
    config = {"analysis": "my_rates", "inputs": {"start": "2007-06-01", "end": "2007-12-31"}}
    with dg.DagsterInstance.ephemeral() as instance:
        job = location.resolve_job_def("run_analysis")
        result = job.execute_in_process(instance=instance, run_config={"ops": {"run_one": {"config": config}}})
        assert result.success
        assert instance.get_latest_materialization_event(asset_key("my_rates", "roc")) is not None
    (run,) = lake.analyses.runs("my_rates")
    assert run.outputs["roc"]["figures"]["first"] == "2007-06-08"


def test_automation__runs_an_analysis_when_its_table_has_news(lake: Lake) -> None:
    selection = dg.AssetSelection.groups("analyses")
    with dg.DagsterInstance.ephemeral() as instance:

        def look(cursor: object) -> tuple[object, set[str]]:
            found = dg.evaluate_automation_conditions(
                code_location(), instance, asset_selection=selection, cursor=cursor
            )
            asked = {result.key for result in found.results if result.true_subset.size}
            return found.cursor, {key.path[-1] for key in asked if isinstance(key, dg.AssetKey) and NAME in key.path}

        cursor, asked = look(None)
        assert asked == set()
        instance.report_runless_asset_event(dg.AssetMaterialization(TABLE))
        cursor, asked = look(cursor)
        assert asked == set(lake.analyses.get(NAME).output_keys)
        cursor, asked = look(cursor)
        assert asked == set()
