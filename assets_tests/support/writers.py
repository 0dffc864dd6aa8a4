"""Processes that load and derive, at the same time or until they are killed: the pipeline's functions without Dagster.

Belongs here: what runs in them, so that they need not import the tests. What the tables hold afterwards is asserted in
the tests.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from multiprocessing.synchronize import Barrier
from typing import Any

import deltalake

from assets_tests.support.patience import PATIENCE_S
from assets_tests.support.processes import WORKERS
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.ingest.load import LoadResult, load
from lakehouse.settings import settings


def load_and_derive(sessions: list[date]) -> LoadResult:
    """What a run of the product does to the tables: loads Xetra's sessions and derives them; what was loaded."""
    config, lake = source_named("xetra"), Lake.open()
    loaded = load(lake, config.bars, sessions)
    derive_bars(lake, config, sessions)
    derive_daily_bars(lake, config, sessions)
    return loaded


def _after_the_others(variables: Mapping[str, str], sessions: list[date], start: Barrier, pause: float) -> None:
    os.environ.update(variables)
    settings.cache_clear()
    start.wait(PATIENCE_S)
    time.sleep(pause)
    load_and_derive(sessions)


def load_and_die(
    variables: Mapping[str, str], stretches: Sequence[list[date]], die_at: int | None, after: bool
) -> None:
    """Loads and derives some sessions after the others; kills itself before or after its commit number `die_at`."""
    os.environ.update(variables)
    settings.cache_clear()
    if die_at is not None:
        _die(die_at, after)
    for sessions in stretches:
        load_and_derive(sessions)


def _die(die_at: int, after: bool) -> None:
    write: Callable[..., None] = deltalake.write_deltalake
    commits = iter(range(1, die_at + 1))

    def deadly(*args: Any, **more: Any) -> None:
        last = next(commits) == die_at
        if last and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        write(*args, **more)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)

    deltalake.write_deltalake = deadly


def run_at_once(variables: Mapping[str, str], shares: Sequence[list[date]], jitter: random.Random) -> None:
    """Runs a process for each share of the sessions, all at the same time to within a tenth of a second."""
    start = WORKERS.Barrier(len(shares))
    running = [
        WORKERS.Process(target=_after_the_others, args=(dict(variables), share, start, jitter.uniform(0, 0.1)))
        for share in shares
    ]
    for process in running:
        process.start()
    for process in running:
        process.join(120)
    assert [process.exitcode for process in running] == [0] * len(shares)
