"""Opens Dagster's SQLite files: only one process creates them, and an in-process run doesn't wait for the disk at each
event.

Dagster opens and closes a connection for each of a run's hundreds of events. Closing a file's last connection
checkpoints its write-ahead log, and each commit waits for the disk: together a fifth of a backfill's time. The
trade-off is that a machine crash may lose a run's last events, but never the files' consistency or data of the lake.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.errors import HomeUnavailable

if TYPE_CHECKING:
    import dagster as dg


def opened_instance() -> dg.DagsterInstance:
    """Opens Dagster's instance in DAGSTER_HOME under a lock: two processes that both create the databases of a new home
    would fail on each other's tables.
    """
    import dagster as dg
    from filelock import FileLock

    with FileLock(Path(os.environ["DAGSTER_HOME"]) / "starting.lock"):
        return dg.DagsterInstance.get()


def storage_errors() -> tuple[type[Exception], ...]:
    """The exceptions that Dagster raises if its storage can't be read or written."""
    import dagster as dg
    import sqlalchemy.exc

    return (HomeUnavailable, dg.DagsterError, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, OSError)


@contextmanager
def storage_faults_explained() -> Iterator[None]:
    """Turns faults of Dagster's SQLite files (a full disk, no permission) inside the block into an error that names
    their folder.

    Raises:
        HomeUnavailable: instead of SQLAlchemy's error.
    """
    import sqlalchemy.exc

    try:
        yield
    except sqlalchemy.exc.DBAPIError as error:
        raise HomeUnavailable(
            f"Dagster's storage in {os.environ['DAGSTER_HOME']} can't be used: {error.orig}. Free space on its disk, "
            "or set DAGSTER_HOME to another folder; what is in the lake stays as it was committed"
        ) from error


@contextmanager
def event_log_kept_open() -> Iterator[None]:
    """Keeps every SQLite file that SQLAlchemy opens open until the block ends; commits don't wait for the disk."""
    import sqlalchemy.event

    kept: dict[str, sqlite3.Connection] = {}
    with ExitStack() as opened:

        def connected(connection: sqlite3.Connection, _: object) -> None:
            connection.execute("PRAGMA synchronous = NORMAL")
            path = next(path for _, name, path in connection.execute("PRAGMA database_list") if name == "main")
            if path and path not in kept:
                kept[path] = opened.enter_context(closing(sqlite3.connect(path, check_same_thread=False)))
                # A connection keeps the write-ahead log open from its first read on.
                kept[path].execute("PRAGMA schema_version").fetchone()

        sqlalchemy.event.listen(sqlalchemy.Engine, "connect", connected)
        opened.callback(sqlalchemy.event.remove, sqlalchemy.Engine, "connect", connected)
        yield
