"""What an update takes in, by the record of earlier runs."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

from assets_tests.support.killed_process import killed_process_of
from lakehouse.catalog import source_named
from lakehouse.components.sources.sensor import SOURCE_TAG
from lakehouse.errors import SourceUnavailable
from lakehouse.local_dagster.display import Display
from lakehouse.local_dagster.update import news, update_sources

RUN = "00000000-0000-4000-8000-000000000000"


@dg.job
def some_job() -> None:
    pass


@pytest.mark.parametrize("name", ["wiki", "binance"])
def test_news__of_a_killed_run_is_all_of_a_source_of_whole_tables(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Its objects may be loaded, so that none is pending; runs over partitions name what they were about."""
    folder = tmp_path / "files"
    folder.mkdir()
    monkeypatch.setenv(f"LAKEHOUSE_{name.upper()}_URL", str(folder))
    source = source_named(name)
    assert news(source) == []
    run = instance.create_run_for_job(
        some_job, run_id=RUN, status=dg.DagsterRunStatus.STARTED, tags={SOURCE_TAG: source.name}
    )
    killed_process_of(instance, run.run_id)
    assert news(source) == ([[]] if not source.stepwise else [])


@pytest.mark.slow
def test_update_sources__goes_on_after_a_source_that_cannot_be_listed(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_BINANCE_URL", str(tmp_path / "missing"))
    (tmp_path / "files").mkdir()
    monkeypatch.setenv("LAKEHOUSE_WIKI_URL", str(tmp_path / "files"))
    found = dict(update_sources([], Display(Console())))
    assert isinstance(found["binance"], SourceUnavailable)
    assert found["wiki"] == "nothing new"
    with pytest.raises(SourceUnavailable, match="missing is no folder"):
        list(update_sources(["binance"], Display(Console())))
