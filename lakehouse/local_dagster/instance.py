"""Dagster's SQLite files: made by one process at a time, and written without waiting for the disk at each event while
this process runs a job.

Dagster opens a connection for each of a run's hundreds of events and closes it again. Closing the last connection of
a file writes the whole log back into it, and each commit waits for the disk: together a fifth of a backfill's time.
What a crash of the machine could lose so are the last events of a run, never the files' consistency, nor anything of
the lake.
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
    """Dagster's instance in DAGSTER_HOME. Of two processes that start in a new home, one makes the databases and the
    other waits: together they would fail on each other's tables.
    """
    import dagster as dg
    from filelock import FileLock

    with FileLock(Path(os.environ["DAGSTER_HOME"]) / "starting.lock"):
        return dg.DagsterInstance.get()


def storage_errors() -> tuple[type[Exception], ...]:
    """What Dagster raises where its storage can't be read or written."""
    import dagster as dg
    import sqlalchemy.exc

    return (HomeUnavailable, dg.DagsterError, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, OSError)


@contextmanager
def storage_faults_explained() -> Iterator[None]:
    """Inside the block a fault of Dagster's SQLite files (a full disk, no permission) names their folder.

    Raises:
        HomeUnavailable: instead of SQLAlchemy's error.
    """
    import sqlalchemy

    try:
        yield
    except sqlalchemy.exc.DBAPIError as error:
        raise HomeUnavailable(
            f"Dagster's storage in {os.environ['DAGSTER_HOME']} can't be used: {error.orig}. Free space on its disk, "
            "or set DAGSTER_HOME to another folder; what is in the lake stays as it was committed"
        ) from error


@contextmanager
def event_log_kept_open() -> Iterator[None]:
    """Every SQLite file that SQLAlchemy opens stays open until the block ends, and commits don't wait for the disk."""
    import sqlalchemy

    kept: dict[str, sqlite3.Connection] = {}
    with ExitStack() as opened:

        def connected(connection: sqlite3.Connection, _: object) -> None:
            connection.execute("PRAGMA synchronous = NORMAL")
            path = next(path for _, name, path in connection.execute("PRAGMA database_list") if name == "main")
            if path and path not in kept:
                kept[path] = opened.enter_context(closing(sqlite3.connect(path, check_same_thread=False)))
                # A connection holds the log open from its first read on.
                kept[path].execute("PRAGMA schema_version").fetchone()

        sqlalchemy.event.listen(sqlalchemy.Engine, "connect", connected)
        opened.callback(sqlalchemy.event.remove, sqlalchemy.Engine, "connect", connected)
        yield
