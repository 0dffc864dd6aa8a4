"""When the marts of feeds are published by Dagster, and that no other marts are built then: when a day of
windows is closed, though they are made all day long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import duckdb
import pytest

from assets_tests.support.dbt_warehouse import Place, Window, write_windows
from assets_tests.support.exchange_lake import code_location, failed_checks
from lakehouse.settings import settings

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")

OF_FEEDS = {"fct_quote_window", "top_stocks", "percentage_gains"}
DAY = datetime(2026, 3, 10, tzinfo=UTC)
NOON = datetime(2024, 1, 2, 12, 0, 5, tzinfo=UTC)
Tick = Callable[[], set[str]]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def tick(instance: dg.DagsterInstance) -> Tick:
    """Looks at the conditions, as the daemon does, and says which assets it would run."""
    cursor = None

    def look() -> set[str]:
        nonlocal cursor
        found = dg.evaluate_automation_conditions(
            code_location(),
            instance,
            asset_selection=dg.AssetSelection.groups("warehouse", "feed_warehouse"),
            cursor=cursor,
        )
        cursor = found.cursor
        keys = {result.key for result in found.results if result.true_subset.size}
        return {key.path[-1] for key in keys if isinstance(key, dg.AssetKey)}

    look()
    return look


def made(instance: dg.DagsterInstance, asset: str, day: datetime) -> None:
    """The service, or a run, has made a day of an asset of the feed."""
    key = dg.AssetKey(["iex", asset])
    instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=f"{day:%Y-%m-%d}"))


def test_windows_that_are_made_all_day_are_published_when_the_day_is_closed(
    tick: Tick, instance: dg.DagsterInstance
) -> None:
    for _ in range(3):
        made(instance, "quotes", DAY)
        made(instance, "quote_windows", DAY)
        assert tick() == set()
    made(instance, "compaction", DAY)
    # The next day's go on meanwhile, and nothing has checked them yet.
    made(instance, "quote_windows", DAY + timedelta(days=1))
    assert tick() == OF_FEEDS
    made(instance, "quote_windows", DAY + timedelta(days=1))
    assert tick() == set()
    made(instance, "compaction", DAY + timedelta(days=1))
    assert tick() == OF_FEEDS


def test_a_day_closed_again_is_published_again(tick: Tick, instance: dg.DagsterInstance) -> None:
    for _ in range(2):
        made(instance, "compaction", DAY)
        assert tick() == OF_FEEDS
        assert tick() == set()


def test_a_run_that_published_is_not_followed_by_another(tick: Tick, instance: dg.DagsterInstance) -> None:
    made(instance, "compaction", DAY)
    assert tick() == OF_FEEDS
    assert run(instance, "feed_warehouse").success
    assert tick() == set()
    assert tick() == set()


def run(instance: dg.DagsterInstance, group: str) -> dg.ExecuteInProcessResult:
    """Materializes a group's assets."""
    job = dg.define_asset_job("some", selection=dg.AssetSelection.groups(group))
    found = dg.Definitions.merge(code_location(), dg.Definitions(jobs=[job])).resolve_job_def("some")
    return found.execute_in_process(instance=instance, raise_on_error=False)


def published() -> tuple[int, int]:
    """Rows of the windows, and of the venues, which are made from bars' sources."""
    with duckdb.connect(str(settings().warehouse), read_only=True) as file:
        row = file.execute(
            "select (select count(*) from marts.fct_quote_window), (select count(*) from marts.dim_venue)"
        ).fetchone()
    assert row is not None
    return row[0], row[1]


def test_a_run_builds_the_marts_of_feeds_alone(instance: dg.DagsterInstance) -> None:
    # The first publication makes every table, whatever it was for.
    first = run(instance, "warehouse")
    assert first.success
    _, venues = published()
    assert published() == (0, venues)
    with duckdb.connect(str(settings().warehouse)) as file:
        file.execute("delete from marts.dim_venue")
    write_windows({Place("A", NOON): Window(), Place("B", NOON): Window()})
    result = run(instance, "feed_warehouse")
    assert result.success
    assert published() == (2, 0)
    materialized = {
        key.path[-1] for key in (event.asset_key for event in result.get_asset_materialization_events()) if key
    }
    assert materialized == {*OF_FEEDS, "dim_resolution"}
    assert failed_checks(result) == {}
    checked = {evaluation.asset_key.path[-1] for evaluation in result.get_asset_check_evaluations()}
    # No change reached the resolutions: they were reported as unchanged, and not tested again.
    assert checked == {*OF_FEEDS}

    write_windows({Place("A", NOON): Window(), Place("B", NOON): Window(quote_count=0)})
    before = settings().warehouse.read_bytes()
    result = run(instance, "feed_warehouse")
    assert not result.success
    assert "marts/fct_quote_window fct_quote_window_ranges" in failed_checks(result)
    assert settings().warehouse.read_bytes() == before
