"""`lakehouse update`: whatever is new at the sources, and nothing else, comes into the marts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from assets_tests.integration.conftest import FirstLoad
from assets_tests.support.exchange_lake import SESSIONS, TABLES, ExchangeLake
from assets_tests.support.soak import ONLY_IN_A_SOAK
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.cli.app import app
from lakehouse.components import run_processes
from lakehouse.derive.rebuild import rebuild


@pytest.fixture(autouse=True)
def dagster_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An update puts DAGSTER_HOME into its process's environment; it goes with the test."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))


def update(*sources: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["update", *sources], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result.output


def test_an_update_takes_in_what_changed_and_the_next_finds_nothing(first_load: FirstLoad) -> None:
    """The exchange corrects an object, sends a damaged one again, and publishes one that was missing."""
    lake = first_load.lake
    before = lake.rows("ingest_ledger")
    for stage in ("late", "repaired", "corrected"):
        lake.exchange.write(lake.feed, stage)
    said = update("xetra")

    ledger = lake.rows("ingest_ledger")
    fresh = ledger.join(before, on=["object", "object_version", "status"], how="anti")
    touched = set(fresh["first_session"])
    assert 0 < len(touched) < len(SESSIONS)
    assert sum(int(count) for count in re.findall(r"sessions +(\d+)", said)) == len(touched)
    newest = ledger.sort("published_at").unique("object", keep="last")
    assert set(newest["status"]) <= {"loaded", "empty"}
    assert not rebuild(Lake.open(), source_named("xetra"), verify=True).differs
    stored = lake.rows("xetra/daily_bars").height
    assert lake.marts("SELECT count(*) FROM fct_daily_bar WHERE source = 'xetra'") == [(stored,)]

    versions, published = lake.versions(), lake.warehouse.stat().st_mtime_ns
    assert "nothing new" in update("xetra")
    assert (lake.versions(), lake.warehouse.stat().st_mtime_ns) == (versions, published)


def test_an_update_of_all_sources_passes_over_those_that_lack_a_setting(
    exchange_lake: ExchangeLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_BINANCE_URL", str(tmp_path))
    monkeypatch.delenv("ALPHA_VANTAGE_API_KEY", raising=False)
    said = " ".join(update().split())
    assert "alpha_vantage: ALPHA_VANTAGE_API_KEY is not set, so that alpha_vantage can't be asked" in said
    assert "binance: nothing new" in said
    assert "xetra: nothing new" in said
    assert [Lake.open().table(table).snapshot().version for table in TABLES] == [None] * len(TABLES)


def test_an_update_goes_on_where_one_failed_after_its_load(exchange_lake: ExchangeLake) -> None:
    """The objects are in the ledger: nothing at the source says that their sessions still have to be published."""
    lake = exchange_lake
    for stage in ("first", "late", "repaired"):
        lake.exchange.write(lake.feed, stage)
    (lake.warehouse / "in the way").mkdir(parents=True)
    assert str(lake.warehouse) in update("xetra", code=1).replace("\n", "")
    loaded = lake.versions()

    (lake.warehouse / "in the way").rmdir()
    lake.warehouse.rmdir()
    assert f"sessions {len(SESSIONS)} " in " ".join(update("xetra").split())
    assert lake.versions() == loaded
    stored = lake.rows("xetra/daily_bars").height
    assert lake.marts("SELECT count(*) FROM fct_daily_bar") == [(stored,)]
    assert "nothing new" in update("xetra")


@pytest.mark.soak
@ONLY_IN_A_SOAK
def test_an_update_goes_on_where_one_was_stopped_before_its_second_run(
    first_load: FirstLoad, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run has succeeded, and the one that makes the marts leaves no record."""
    lake = first_load.lake
    for stage in ("late", "repaired"):
        lake.exchange.write(lake.feed, stage)
    running_here, entered = run_processes.running_here, []

    @contextmanager
    def stopped_before_the_second(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
        entered.append(run_id)
        if len(entered) == 2:
            raise KeyboardInterrupt
        with running_here(instance, run_id):
            yield

    def published() -> list[tuple]:
        return lake.marts("SELECT session, turnover FROM fct_daily_bar WHERE source = 'xetra' ORDER BY ALL")

    before = published()
    with monkeypatch.context() as patch:
        patch.setattr(run_processes, "running_here", stopped_before_the_second)
        update("xetra", code=130)
    assert published() == before
    assert "checks passed" in update("xetra")
    stored = lake.rows("xetra/daily_bars")
    assert published() == sorted(stored.select("session", "turnover").rows())
    assert published() != before
    assert "nothing new" in update("xetra")
