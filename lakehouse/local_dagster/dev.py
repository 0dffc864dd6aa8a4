"""Dagster's UI and daemon on this lake, as `lakehouse dev` starts them."""

from __future__ import annotations

import fcntl
import logging
import os
import runpy
import signal
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.markup import escape

from lakehouse.catalog import database_place
from lakehouse.local_dagster.backfill import prepared_home
from lakehouse.local_dagster.instance import opened_instance, storage_faults_explained
from lakehouse.servers.postgres import database
from lakehouse.settings import beside_package, settings

_IN_USE = "dev.lock"
"""A file of the home, on which each `lakehouse dev` holds a shared lock."""


def run_ui(console: Console, port: int) -> NoReturn:
    """Runs `dagster dev` in this process, on 127.0.0.1, until it is stopped.

    Raises:
        HomeUnavailable: the home is a file, or Dagster's storage can't be written.
        OSError: the home can't be written.
        DatabaseUnavailable: the home's embedded database can't be started.
    """
    from lakehouse.components.run_processes import fail_dead_runs

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
    # A shell script starts background processes with SIGINT ignored, but Dagster ends its children by SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Hide two irrelevant warnings: `dg dev` doesn't take our workspace, and this folder's dagster.yaml is the one just
    # copied to DAGSTER_HOME.
    warnings.filterwarnings("ignore", message="Function `dev_command` is superseded")
    logging.getLogger("dagster").addFilter(lambda record: "dagster.yaml" not in record.getMessage())
    workspace = str(beside_package("workspace.yaml"))
    sys.argv = ["dagster", "dev", "--workspace", workspace, "--host", "127.0.0.1", "--port", str(port)]
    # The lock and the database last as long as this process.
    with in_use, _database_held():
        runpy.run_module("dagster", run_name="__main__", alter_sys=True)
    raise SystemExit


def _database_held() -> AbstractContextManager[object]:
    """Keeps the embedded PostgreSQL running where there is one: otherwise each look of a sensor would start it."""
    place = database_place(settings())
    return database(place) if place.url is None and place.folder.is_dir() else nullcontext()


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
