"""Dagster's SQLite files stay open for a run and are whole after it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import sqlalchemy
from sqlalchemy.pool import NullPool

from lakehouse.local_dagster.instance import event_log_kept_open


def write(path: Path, value: int) -> None:
    """One event, as Dagster's storage writes it: by an engine and a connection of its own."""
    engine = sqlalchemy.create_engine(f"sqlite:///{path}", poolclass=NullPool)
    with engine.connect() as connection, connection.begin():
        connection.execute(sqlalchemy.text("INSERT INTO events VALUES (:value)"), {"value": value})


def database(path: Path) -> Path:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE events (value)")
    connection.close()
    return path


def test_the_log_is_not_written_back_with_every_event(tmp_path: Path) -> None:
    path = database(tmp_path / "events.db")
    log = Path(f"{path}-wal")

    write(path, 1)
    assert not log.exists()
    with event_log_kept_open():
        write(path, 2)
        write(path, 3)
        assert log.stat().st_size > 0
    assert not log.exists()


def test_events_are_there_during_the_run_and_after_it(tmp_path: Path) -> None:
    path = database(tmp_path / "events.db")

    def values() -> list[int]:
        with sqlite3.connect(path) as connection:
            return [value for (value,) in connection.execute("SELECT value FROM events ORDER BY value")]

    with event_log_kept_open():
        write(path, 1)
        assert values() == [1]
    write(path, 2)
    assert values() == [1, 2]
