"""Keeps Dagster's run storage small: stores less per run, and deletes runs after a retention period.

An asset's page shows each partition's newest materialization and each check's newest result, however old. These are
kept when the run that wrote them is deleted.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any, Self

import dagster as dg
import sqlalchemy as sa
from dagster._core.events import AssetCheckEvaluationPlanned
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData

RETENTION = timedelta(days=30)
_RUNS_AT_ONCE = 500
"""Runs deleted per call; a home that was never pruned takes several calls."""
_FILES_OPEN = 16
"""Maximum of open SQLite files: one for all runs and one per run."""
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]

_REVISION = sa.text("SELECT version_num FROM alembic_version")
_SUPERSEDED_EVENTS = """
    run_id IN :runs AND (
        dagster_event_type IS NOT 'ASSET_MATERIALIZATION' OR id < (
            SELECT max(id) FROM event_logs AS newer
            WHERE newer.asset_key = event_logs.asset_key AND newer.dagster_event_type = 'ASSET_MATERIALIZATION'
                AND newer.partition IS event_logs.partition
        )
    )
"""
_SUPERSEDED_CHECKS = """
    run_id IN :runs AND (
        execution_status = 'PLANNED' OR id < (
            SELECT max(id) FROM asset_check_executions AS newer
            WHERE newer.asset_key = asset_check_executions.asset_key
                AND newer.check_name = asset_check_executions.check_name AND newer.execution_status <> 'PLANNED'
        )
    )
"""


class EventLog(SqliteEventLogStorage):
    """Dagster's event log, in its usual place in DAGSTER_HOME.

    Dagster creates an engine for each statement, so SQLAlchemy recompiles the statement and opens and closes a
    connection: together a fifth of a backfill's time. This log keeps the engines and their connections.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._tables: set[str] = set()
        self._columns: set[str] = set()
        self._engines: dict[str, sa.Engine] = {}
        self._engines_lock = Lock()
        super().__init__(base_dir, inst_data)

    def _engine(self, shard: str) -> sa.Engine:
        """Returns the engine of an SQLite file; disposes of the least recently used one beyond the limit."""
        with self._engines_lock:
            engine = self._engines.pop(shard, None) or sa.create_engine(
                self.conn_string_for_shard(shard),
                poolclass=sa.QueuePool,
                pool_size=1,
                max_overflow=-1,
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
            )
            self._engines[shard] = engine
            if len(self._engines) > _FILES_OPEN:
                self._engines.pop(next(iter(self._engines))).dispose()
            return engine

    def _close(self, shards: Iterable[str]) -> None:
        """Closes the shards' files."""
        with self._engines_lock:
            for engine in [self._engines.pop(shard) for shard in shards if shard in self._engines]:
                engine.dispose()

    def dispose(self) -> None:
        """Closes all files, so that a later log of the same folder doesn't reuse connections to removed files."""
        super().dispose()
        self._close(list(self._engines))

    def _initdb(self, engine: sa.Engine, for_index_shard: bool = False) -> None:
        """Makes the tables of a new file. One that has them is left alone, which Dagster does after it has read the
        scripts of all its migrations: a sixth of a second for each run that a process opens.
        """
        with engine.connect() as connection:
            if sa.inspect(connection).has_table("alembic_version") and connection.execute(_REVISION).first():
                return
        super()._initdb(engine, for_index_shard)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[sa.Connection]:
        with self._db_lock:
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    def has_table(self, table_name: str) -> bool:
        """Whether the file for all runs has a table. Cached, since Dagster asks at every event and never drops one."""
        if table_name not in self._tables:
            with self._engine(INDEX_SHARD_NAME).connect() as connection:
                if not sa.inspect(connection).has_table(table_name):
                    return False
            self._tables.add(table_name)
        return True

    def _has_asset_key_col_on_connection(self, conn: sa.Connection, column_name: str) -> bool:
        """Whether the table of assets has a column. Cached, too: it took a tenth of an event's time."""
        if column_name not in self._columns:
            if not super()._has_asset_key_col_on_connection(conn, column_name):
                return False
            self._columns.add(column_name)
        return True

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        """`base_dir` is DAGSTER_HOME."""
        return cls(str(Path(config_value["base_dir"]) / "history" / "runs"), inst_data)

    def store_asset_check_event(self, event: dg.EventLogEntry, event_id: int | None) -> None:
        """Stores that a check is planned once per run, not once per partition of the run.

        The checks are unpartitioned, so Dagster takes the run's partitions and stores for each of them a row that
        contains the whole calendar: 24 MB for 208 sessions. The check's result is a separate row.
        """
        planned = event.dagster_event
        if planned is not None and isinstance(planned.event_specific_data, AssetCheckEvaluationPlanned):
            data = planned.event_specific_data
            once = AssetCheckEvaluationPlanned(asset_key=data.asset_key, check_name=data.check_name)
            event = event._replace(dagster_event=planned._replace(event_specific_data=once))
        super().store_asset_check_event(event, event_id)

    def forget(self, run_ids: list[str]) -> None:
        """Deletes the events of runs, except the newest of each partition and check."""
        runs: sa.BindParameter[list[str]] = sa.bindparam("runs", run_ids, expanding=True)
        with self.index_connection() as connection:
            for table, superseded in (
                ("asset_event_tags", f"event_id IN (SELECT id FROM event_logs WHERE {_SUPERSEDED_EVENTS})"),
                ("event_logs", _SUPERSEDED_EVENTS),
                ("asset_check_executions", _SUPERSEDED_CHECKS),
            ):
                connection.execute(sa.text(f"DELETE FROM {table} WHERE {superseded}").bindparams(runs))
        self._close(run_ids)
        for run_id in run_ids:
            for path in Path(self.path_for_shard(run_id)).parent.glob(f"{run_id}.db*"):
                path.unlink(missing_ok=True)


def prune(instance: dg.DagsterInstance, now: datetime | None = None) -> int:
    """Deletes the finished runs older than the retention, with their events and captured output; returns their
    number.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, EventLog):
        return 0
    old = dg.RunsFilter(statuses=_ENDED, created_before=(now or datetime.now(UTC)) - RETENTION)
    run_ids = [run.run_id for run in instance.get_runs(old, limit=_RUNS_AT_ONCE, ascending=True)]
    if run_ids:
        storage.forget(run_ids)
        for run_id in run_ids:
            shutil.rmtree(Path(instance.root_directory) / "storage" / run_id, ignore_errors=True)
            instance.run_storage.delete_run(run_id)
    return len(run_ids)
