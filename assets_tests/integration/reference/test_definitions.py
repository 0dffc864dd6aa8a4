"""What Dagster loads of the sources of reference data that are published as files."""

from __future__ import annotations

import pytest

from assets_tests.support.exchange_lake import code_location

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")

TABLES = {
    "mic": {"raw_markets", "published_markets"},
    "gleif": {
        *(
            f"{prefix}{rows}"
            for prefix in ("raw_", "published_")
            for rows in ("entities", "relationships", "exceptions")
        ),
        *(f"{prefix}{rows}" for prefix in ("raw_", "published_") for rows in ("isins", "bics")),
        *(f"raw_answered_{rows}" for rows in ("entities", "relationships", "exceptions", "isins")),
        *(f"answered_{rows}" for rows in ("entities", "relationships", "exceptions", "isins")),
    },
}
SCHEDULES = {
    "mic_cron": "0 6 2 * *",
    "gleif_cron": "30 1,9,17 * * *",
    "gleif_isins_cron": "0 9 * * *",
    "gleif_bics_cron": "0 9 1 * *",
}


def test_assets_checks_and_what_runs_them(own_environment: None) -> None:
    repository = code_location().get_repository_def()
    graph = code_location().resolve_asset_graph()
    for source, tables in TABLES.items():
        keys = {key for key in graph.get_all_asset_keys() if key.path[0] == source}
        assert {key.path[1] for key in keys} == tables
        assert all(graph.get(key).owners and graph.get(key).description for key in keys)
        assert all(graph.get(key).partitions_def is not None for key in keys)
        blocking = {
            key.name
            for key in graph.asset_check_keys
            if key.asset_key.path[0] == source and graph.get_check_spec(key).blocking
        }
        assert {"contract", "key_is_unique", "conservation"} <= blocking
        assert f"{source}_objects" in {sensor.name for sensor in repository.sensor_defs}
    schedules = {each.name: each.cron_schedule for each in repository.schedule_defs if each.name in SCHEDULES}
    assert schedules == SCHEDULES


def test_mappings_are_updated_at_times_of_their_own(own_environment: None) -> None:
    raw = {}
    for schedule in code_location().get_repository_def().schedule_defs:
        if schedule.name in SCHEDULES and schedule.name.startswith("gleif"):
            job = code_location().resolve_job_def(schedule.job_name)
            names = {key.path[-1] for key in job.asset_layer.executable_asset_keys}
            assert "dim_issuer" in names
            raw[schedule.name] = {name for name in names if name.startswith("raw_")}
    every = {name for name in TABLES["gleif"] if name.startswith("raw_")}
    assert raw == {
        "gleif_cron": every - {"raw_isins", "raw_bics"},
        "gleif_isins_cron": {"raw_isins"},
        "gleif_bics_cron": {"raw_bics"},
    }
