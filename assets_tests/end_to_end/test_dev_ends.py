"""`lakehouse dev` ends, with all that it started, however it was started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from assets_tests.servers.process import free_port, log_tail

LAKEHOUSE = Path(sys.executable).with_name("lakehouse")


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


def test_sigterm_ends_what_a_script_started_in_the_background(tmp_path: Path) -> None:
    """A shell without a terminal has its background jobs ignore SIGINT, by which Dagster ends its own processes."""
    log, home = tmp_path / "log", tmp_path / "home"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [LAKEHOUSE, "dev", "--port", str(free_port())],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LAKEHOUSE_HOME": str(home), "PYTHON_DOTENV_DISABLED": "1"},
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        )
    try:
        wait_until(lambda: "Serving dagster-webserver" in log.read_text(), 90, log)
        process.terminate()
        process.wait(60)
        wait_until(lambda: not processes_of(home), 30, log)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def wait_until(condition: Callable[[], bool], seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log_tail(log)
        time.sleep(0.2)
