"""`lakehouse dev` on a home in which a backfill was killed, and its end: with all that it started, however it was
started.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from assets_tests.support.exchange_lake import SESSIONS, simulated_exchange
from assets_tests.support.patience import RUN_PATIENCE_S, wait_until
from assets_tests.support.servers.process import free_port, log_tail
from assets_tests.support.soak import ONLY_IN_A_SOAK

LAKEHOUSE = Path(sys.executable).with_name("lakehouse")
KILLED, NEW = SESSIONS[0], SESSIONS[-1]


def until(condition: Callable[[], bool], log: Path) -> None:
    wait_until(condition, RUN_PATIENCE_S, about=lambda: log_tail(log), every=0.2)


@dataclass
class Dev:
    """`lakehouse dev` in the background of a script."""

    home: Path
    log: Path
    process: subprocess.Popen[bytes]


def environment(home: Path) -> dict[str, str]:
    own = {"LAKEHOUSE_HOME": str(home), "LAKEHOUSE_XETRA_URL": str(home / "feed"), "PYTHON_DOTENV_DISABLED": "1"}
    return {**os.environ, **own}


def processes_of(home: Path) -> set[int]:
    """The processes whose environment names this home."""
    mark = f"LAKEHOUSE_HOME={home}".encode()
    found = set()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in environment.read_bytes().split(b"\0"):
                found.add(int(environment.parent.name))
        except OSError:
            continue  # it has ended, or is somebody else's
    return found


def kill_a_backfill(home: Path, log: Path) -> None:
    """Kills a backfill when its first run has stored bars, and before they are derived."""
    command = [LAKEHOUSE, "backfill", "xetra", "--from", str(KILLED), "--to", str(KILLED)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment(home))
    until((home / "lake/ingest_ledger/_delta_log").exists, log)
    process.kill()
    process.wait()
    assert not (home / "warehouse.duckdb").exists()


@contextmanager
def dev_on(home: Path, log: Path) -> Iterator[Dev]:
    """Started as a shell without a terminal does it: its background jobs ignore SIGINT, by which Dagster ends its own
    processes.
    """
    home.mkdir(exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [LAKEHOUSE, "dev", "--port", str(free_port())],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(home),
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        )
    try:
        until(lambda: "Serving dagster-webserver" in log.read_text(), log)
        yield Dev(home, log, process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_sigterm_ends_what_a_script_started_in_the_background(tmp_path: Path) -> None:
    with dev_on(tmp_path / "home", tmp_path / "log") as dev:
        dev.process.terminate()
        dev.process.wait(RUN_PATIENCE_S)
        until(lambda: not processes_of(dev.home), dev.log)


@pytest.mark.soak
@ONLY_IN_A_SOAK
def test_a_new_file_reaches_the_marts_after_a_backfill_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So do the bars that the backfill had loaded."""
    home, log = tmp_path / "home", tmp_path / "log"
    monkeypatch.setenv("LAKEHOUSE_HOME", str(home))
    simulated_exchange().write(tmp_path / "published")
    shutil.copytree(tmp_path / "published" / str(KILLED), home / "feed" / str(KILLED))
    kill_a_backfill(home, log)

    def published() -> set[str]:
        if not (home / "warehouse.duckdb").exists():
            return set()
        with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as marts:
            return {str(day) for (day,) in marts.execute("SELECT DISTINCT session FROM marts.fct_daily_bar").fetchall()}

    with dev_on(home, log):
        shutil.copytree(tmp_path / "published" / str(NEW), home / "feed" / str(NEW))
        until(lambda: {str(KILLED), str(NEW)} <= published(), log)
