"""Dagster's UI and daemon on this lake, as `lakehouse dev` starts them."""

from __future__ import annotations

import fcntl
import logging
import os
import runpy
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.markup import escape

from lakehouse.api import Lake
from lakehouse.catalog import database_place, sources
from lakehouse.errors import DatabaseUnavailable
from lakehouse.local_dagster.backfill import prepared_home
from lakehouse.local_dagster.instance import opened_instance, storage_faults_explained
from lakehouse.servers.postgres import Place, database, was_made
from lakehouse.settings import beside_package, settings

_IN_USE = "dev.lock"
"""A file of the home, on which each `lakehouse dev` holds a shared lock."""
_MADE_POLL_S = 2.0
_log = logging.getLogger(__name__)


def run_ui(console: Console, port: int) -> NoReturn:
    """Runs `dagster dev` in this process, on 127.0.0.1, until it is stopped.

    Raises:
        HomeUnavailable: the home is a file, or Dagster's storage can't be written.
        OSError: the home can't be written.
        DatabaseUnavailable: the home's embedded database can't be started.
    """
    from lakehouse.components.run_processes import fail_dead_runs
    from lakehouse.components.sources.extent import note_unknown_extents

    home = prepared_home(settings())
    in_use = (settings().home / _IN_USE).open("w")
    fcntl.flock(in_use, fcntl.LOCK_SH)
    # Dagster's processes must use the same folder whatever their working directory.
    os.environ["LAKEHOUSE_HOME"] = str(settings().home)
    if (own := settings().defs) is not None:
        os.environ["LAKEHOUSE_DEFS"] = str(own)
    console.print(
        f"Dagster's UI: http://127.0.0.1:{port}   (lake: {escape(settings().lake)}, DAGSTER_HOME: {escape(str(home))})",
        highlight=False,
        soft_wrap=True,
    )
    # Otherwise sensors would wait for runs that a killed process left behind.
    with storage_faults_explained(), opened_instance() as instance:
        fail_dead_runs(instance)
    note_unknown_extents(Lake.present(), sources().values())
    # A shell script starts background processes with SIGINT ignored, but Dagster ends its children by SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Hide two irrelevant warnings: `dg dev` doesn't take our workspace, and this folder's dagster.yaml is the one just
    # copied to DAGSTER_HOME.
    warnings.filterwarnings("ignore", message="Function `dev_command` is superseded")
    logging.getLogger("dagster").addFilter(lambda record: "dagster.yaml" not in record.getMessage())
    workspace = str(beside_package("workspace.yaml"))
    sys.argv = ["dagster", "dev", "--workspace", workspace, "--host", "127.0.0.1", "--port", str(port)]
    # The lock and the database last as long as this process.
    with in_use, database_held():
        runpy.run_module("dagster", run_name="__main__", alter_sys=True)
    raise SystemExit


@contextmanager
def database_held() -> Iterator[threading.Event]:
    """Keeps the embedded PostgreSQL running, once there is one: otherwise each look of a sensor would start it, and
    none would see what the last worker left when it was killed, since the server ends with its last user. The event is
    set when it is kept.

    Raises:
        DatabaseUnavailable: there is one, and it can't be started.
    """
    place, held, ended = database_place(settings()), threading.Event(), threading.Event()
    if place.url is not None:
        yield held
        return
    if was_made(place):
        with database(place):
            held.set()
            yield held
        return
    waiting = threading.Thread(target=_hold, args=(place, held, ended))
    waiting.start()
    try:
        yield held
    finally:
        ended.set()
        waiting.join()


def _hold(place: Place, held: threading.Event, ended: threading.Event) -> None:
    """Keeps the server of a place from when it is made until the event."""
    while not was_made(place):
        if ended.wait(_MADE_POLL_S):
            return
    try:
        with database(place):
            held.set()
            ended.wait()
    except DatabaseUnavailable as error:
        _log.warning("%s", error)


def is_shown(home: Path) -> bool:
    """Whether a `lakehouse dev` is running on a home."""
    try:
        with (home / _IN_USE).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
