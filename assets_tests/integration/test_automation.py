"""When the marts publish by themselves: after daily bars that no run published yet, and only after sound ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pytest

from assets_tests.integration.conftest import FirstLoad
from assets_tests.support.exchange_lake import FIRST, LAST, code_location

DAILY_BARS = dg.AssetKey(["xetra", "daily_bars"])
OTHERS_BARS = dg.AssetKey(["binance", "daily_bars"])
Tick = Callable[[], set[str]]


@dataclass
class Daemon:
    """Dagster's daemon: it looks at the conditions, and says which assets it would run."""

    instance: dg.DagsterInstance
    cursor: Any = None
    looks: list[set[str]] = field(default_factory=list)

    def look(self) -> set[str]:
        found = dg.evaluate_automation_conditions(
            code_location(), self.instance, asset_selection=dg.AssetSelection.groups("warehouse"), cursor=self.cursor
        )
        self.cursor = found.cursor
        keys = {result.key for result in found.results if result.true_subset.size}
        self.looks.append({key.path[-1] for key in keys if isinstance(key, dg.AssetKey)})
        return self.looks[-1]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One for all tests, each of which leaves nothing to do."""
    with dg.DagsterInstance.ephemeral() as made:
        yield Daemon(made)


@pytest.fixture
def instance(daemon: Daemon) -> dg.DagsterInstance:
    return daemon.instance


@pytest.fixture
def tick(first_load: FirstLoad, daemon: Daemon) -> Tick:
    """The daemon's look at the conditions. The lake is up to date."""
    if not daemon.looks:
        daemon.look()
        assert first_load.lake.run(daemon.instance).success
        daemon.look()
    assert daemon.look() == set()
    return daemon.look


def materialize_by_hand(instance: dg.DagsterInstance, asset: dg.AssetKey = DAILY_BARS) -> None:
    """Somebody's run of daily_bars alone has made a session; its checks come next."""
    instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=str(LAST)))


def check(instance: dg.DagsterInstance, asset: dg.AssetKey = DAILY_BARS, *, consistent: bool) -> None:
    """The checks of such a run have ended; of those that hold nothing back, one found something to look at."""
    others = ("contract", "key_is_unique", "enough_rows_kept")
    found = {**dict.fromkeys(others, True), "volume_usual": False, "consistent_with_bars": consistent}
    for name, passed in found.items():
        evaluation = dg.AssetCheckEvaluation(asset_key=asset, check_name=name, passed=passed)
        instance.report_runless_asset_event(evaluation)


def test_a_run_that_published_is_not_followed_by_another(
    tick: Tick, first_load: FirstLoad, instance: dg.DagsterInstance
) -> None:
    assert tick() == set()
    assert first_load.lake.run(instance, FIRST, FIRST).success
    assert tick() == set()
    assert tick() == set()


def test_daily_bars_made_by_hand_are_published_when_they_are_checked(tick: Tick, instance: dg.DagsterInstance) -> None:
    materialize_by_hand(instance)
    assert tick() == set()
    check(instance, consistent=True)
    # All that follows from daily_bars, together; venues and calendars have no news.
    assert tick() == {
        *("dim_instrument", "bridge_instrument_identifier", "fct_daily_bar", "fct_corporate_action", "daily_summary"),
        *("daily_movers", "average_range", "most_traded_by_value", "returns"),
    }
    assert tick() == set()


def test_daily_bars_that_failed_a_blocking_check_wait_until_they_pass(tick: Tick, instance: dg.DagsterInstance) -> None:
    materialize_by_hand(instance)
    check(instance, consistent=False)
    assert tick() == set()
    check(instance, consistent=True)
    assert "fct_daily_bar" in tick()
    assert tick() == set()


def test_a_failed_check_of_a_source_does_not_hold_back_another(tick: Tick, instance: dg.DagsterInstance) -> None:
    """The news of every source waited until the one was corrected."""
    materialize_by_hand(instance)
    check(instance, consistent=False)
    assert tick() == set()
    materialize_by_hand(instance, OTHERS_BARS)
    assert tick() == set()
    check(instance, OTHERS_BARS, consistent=True)
    assert "fct_daily_bar" in tick()
    assert tick() == set()
    check(instance, consistent=True)
    assert "fct_daily_bar" in tick()
    assert tick() == set()
