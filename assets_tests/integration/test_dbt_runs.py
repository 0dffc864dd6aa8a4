"""Runs of dbt in this process: which installation they work for, and what they leave as it was."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from lakehouse.settings import Settings, settings
from lakehouse.warehouse.dbt import Event, build_path, manifest_path, run_dbt
from lakehouse.warehouse.reading import moment_in, reading

MOMENTS = [datetime(2024, 3, day, 12, tzinfo=UTC) for day in (1, 2)]


@pytest.mark.usefixtures("own_environment")
def test_run_dbt__works_for_the_settings_it_is_given_and_parses_the_project_for_none(tmp_path: Path) -> None:
    config = Settings(home=tmp_path / "another")
    build = build_path(config)
    environment, own = dict(os.environ), settings()
    manifest_path(config)
    parsed: list[str] = []
    for moment in MOMENTS:

        def watch(event: Event) -> None:
            assert dict(os.environ) == environment
            assert settings() is own
            if "Pars" in event.info.name:
                parsed.append(event.info.msg)

        with duckdb.connect(str(build)) as connection, reading(connection, {}, moment):
            with duckdb.connect(str(build)) as file:
                assert moment_in(file) == moment
            assert run_dbt(("run", "--select", "dim_venue"), config, watch) == []
    assert parsed == []
    with duckdb.connect(str(build), read_only=True) as file:
        assert moment_in(file) is None
        assert file.execute("SELECT count(*) FROM marts.dim_venue").fetchone() is not None
    assert not own.warehouse.exists()
    assert not (own.home / "dbt").exists()
