"""Workers, nodes and drivers of a Ray cluster that are killed at any moment: what can go on goes on, and after a re-run
the tables are those of an undisturbed one.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets_tests.support.processes import WORKERS
from assets_tests.support.servers.process import MissingBinary
from assets_tests.support.servers.ray_cluster import RayCluster
from assets_tests.support.soak import ONLY_IN_A_SOAK, soak_count
from assets_tests.support.taken import rows_of, take_in_process
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.settings import settings
from lakehouse.simulators.exchange import Exchange

FIRST, LAST = date(2024, 3, 1), date(2024, 3, soak_count(14, 28))
KILLS = soak_count(1, 10)
TABLES = ("xetra/raw_bars", "xetra/bars", "xetra/daily_bars", "quarantine", "ingest_ledger")
WAIT_S = 120.0


@dataclass(frozen=True)
class Ground:
    """A cluster, what it loads, what it should make of it, and the seconds that it takes undisturbed."""

    cluster: RayCluster
    feed: Path
    homes: Path
    temporary: Path
    expected: dict[str, pl.DataFrame]

    def empty(self) -> None:
        """Gives the nodes' home an empty lake."""
        place = self.homes / str(len(list(self.homes.iterdir())))
        (place / "lake").mkdir(parents=True)
        link = self.homes.parent / "home"
        link.unlink(missing_ok=True)
        link.symlink_to(place)

    @property
    def home(self) -> Path:
        return self.homes.parent / "home"

    def variables(self, compute: str) -> dict[str, str]:
        return {
            "LAKEHOUSE_HOME": str(self.home),
            "LAKEHOUSE_XETRA_URL": str(self.feed),
            "LAKEHOUSE_COMPUTE": compute,
            "LAKEHOUSE_RAY_ADDRESS": self.cluster.address,
            "LAKEHOUSE_RAY_MEMORY_MIB": "256",
        }

    def start(self) -> Any:
        """A driver."""
        process = WORKERS.Process(target=take_in_process, args=(self.variables("ray"), "xetra"))
        process.start()
        return process

    def require_whole(self) -> None:
        """A re-run leaves what an undisturbed one leaves."""
        process = self.start()
        process.join(WAIT_S)
        assert process.exitcode == 0
        self.require_rows()

    def require_rows(self) -> None:
        found = rows_of(Lake(str(self.home / "lake")), *TABLES)
        for name in TABLES:
            assert_frame_equal(found[name], self.expected[name])


def within(seconds: float, is_so: Callable[[], bool]) -> bool:
    """Whether something becomes so."""
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    sessions = source_named("xetra").calendar.frame.select("session", "open_at", "close_at")
    root = tmp_path_factory.mktemp("ray-kill")
    feed, homes, temporary = root / "feed", root / "homes", root / "temporary"
    homes.mkdir()
    temporary.mkdir()
    Exchange(sessions.filter(pl.col("session").is_between(FIRST, LAST)).rows(), instruments=6).write(feed)
    alone = WORKERS.Process(
        target=take_in_process,
        args=({"LAKEHOUSE_HOME": str(root / "alone"), "LAKEHOUSE_XETRA_URL": str(feed)}, "xetra"),
    )
    (root / "alone" / "lake").mkdir(parents=True)
    alone.start()
    alone.join(WAIT_S)
    assert alone.exitcode == 0
    expected = rows_of(Lake(str(root / "alone" / "lake")), *TABLES)
    try:
        with RayCluster({"LAKEHOUSE_HOME": str(root / "home"), "TMPDIR": str(temporary)}) as cluster:
            yield Ground(cluster, feed, homes, temporary, expected)
    except MissingBinary as missing:
        pytest.skip(str(missing))
    finally:
        settings.cache_clear()


def start_and_wait_for_work(ground: Ground, chance: random.Random) -> Any:
    """A driver whose tasks have run for some moments."""
    ground.empty()
    driver = ground.start()
    assert within(WAIT_S, lambda: bool(ground.cluster.working()) or not driver.is_alive())
    driver.join(chance.uniform(0, 1.5))
    return driver


def require_nothing_left(ground: Ground) -> None:
    assert within(30, lambda: not ground.cluster.working())
    assert within(30, lambda: not list(ground.temporary.glob("lakehouse-task-*/*"))), list(ground.temporary.rglob("*"))


@pytest.mark.soak
@ONLY_IN_A_SOAK
@pytest.mark.parametrize("seed", range(KILLS))
def test_worker_killed__its_task_runs_again(ground: Ground, seed: int) -> None:
    chance = random.Random(seed)
    driver = start_and_wait_for_work(ground, chance)
    within(20, lambda: ground.cluster.kill_worker(chance) or not driver.is_alive())
    driver.join(WAIT_S)
    assert driver.exitcode == 0
    ground.require_rows()
    require_nothing_left(ground)


@pytest.mark.soak
@ONLY_IN_A_SOAK
@pytest.mark.parametrize("seed", range(KILLS))
def test_node_killed__its_tasks_run_on_the_other(ground: Ground, seed: int) -> None:
    driver = start_and_wait_for_work(ground, random.Random(seed))
    ground.cluster.kill_second_node()
    driver.join(WAIT_S)
    assert driver.exitcode == 0
    ground.require_rows()
    ground.cluster.replace_second_node()
    require_nothing_left(ground)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("how", "seed"),
    [
        pytest.param(how, seed, id=f"{name}-{seed}", marks=() if (name, seed) == ("killed", 0) else ONLY_IN_A_SOAK)
        for name, how in (("killed", signal.SIGKILL), ("interrupted", signal.SIGINT))
        for seed in range(KILLS)
    ],
)
def test_driver_ended__so_do_its_tasks(ground: Ground, seed: int, how: signal.Signals) -> None:
    driver = start_and_wait_for_work(ground, random.Random(seed))
    if driver.is_alive():
        os.kill(driver.pid, how)
    driver.join(WAIT_S)
    require_nothing_left(ground)
    ground.require_whole()
    require_nothing_left(ground)
