"""Runs are forgotten after the retention; what the asset pages show of partitions and checks is not."""

import os
import shutil
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.storage.event_log.sqlite import sqlite_event_log

from lakehouse.components import run_history
from lakehouse.components.run_history import RETENTION, EventLog, prune
from lakehouse.components.sources.run_tags import range_tags

DAYS = dg.DailyPartitionsDefinition("2024-03-01", exclusions=[datetime(2024, 3, 9), datetime(2024, 3, 10)])
FIRST, LAST = (datetime(2024, 3, day).date() for day in (4, 8))


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def prices() -> None: ...


@dg.asset_check(asset=prices)
def sound() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


JOB = dg.define_asset_job("update", [prices])
DEFINITIONS = dg.Definitions([prices], asset_checks=[sound], jobs=[JOB], executor=dg.in_process_executor)


def run(instance: dg.DagsterInstance, first: str, last: str) -> str:
    tags = range_tags(datetime.fromisoformat(first).date(), datetime.fromisoformat(last).date())
    result = DEFINITIONS.resolve_job_def("update").execute_in_process(instance=instance, tags=tags)
    assert result.success
    return result.run_id


def stored(instance: dg.DagsterInstance, query: str, file: str = "runs/index.db") -> list[tuple[object, ...]]:
    path = Path(instance.root_directory) / "history" / file
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def test_a_check_is_stored_once_a_run_not_once_a_partition(instance: dg.DagsterInstance) -> None:
    run(instance, "2024-03-04", "2024-03-08")
    rows = stored(instance, "SELECT partition, execution_status FROM asset_check_executions")
    assert rows == [(None, "SUCCEEDED")]


def test_old_runs_are_pruned_and_the_newest_of_each_partition_and_check_stays(instance: dg.DagsterInstance) -> None:
    old = [run(instance, "2024-03-04", "2024-03-06"), run(instance, "2024-03-06", "2024-03-08")]
    key, folder = dg.AssetKey("prices"), Path(instance.root_directory)
    materialized = instance.get_materialized_partitions(key)
    assert prune(instance) == 0

    after = datetime.now(UTC) + RETENTION + timedelta(minutes=1)
    assert prune(instance, after) == 2
    assert instance.get_runs() == []
    assert stored(instance, "SELECT * FROM run_tags", "runs.db") == []
    assert instance.get_materialized_partitions(key) == materialized
    assert stored(instance, "SELECT partition, count(*), max(run_id) FROM event_logs GROUP BY 1 ORDER BY 1") == [
        (f"2024-03-0{day}", 1, old[day >= 6]) for day in range(4, 9)
    ]
    assert stored(instance, "SELECT run_id FROM asset_check_executions") == [(old[1],)]
    assert stored(
        instance, "SELECT count(*) FROM asset_event_tags WHERE event_id NOT IN (SELECT id FROM event_logs)"
    ) == [(0,)]
    assert not [path for run_id in old for path in folder.rglob(f"*{run_id}*")]
    # The pages go on: a later run is stored beside what has stayed.
    newest = run(instance, "2024-03-04", "2024-03-04")
    event = instance.get_latest_materialization_event(key)
    assert event is not None
    assert event.run_id == newest
    assert prune(instance, after - RETENTION) == 0


def test_a_log_opens_each_file_once_and_asks_once_for_a_table(instance: dg.DagsterInstance) -> None:
    log = instance.event_log_storage
    assert isinstance(log, EventLog)
    opened: list[str] = []
    asked: list[str] = []

    def connected(connection: sqlite3.Connection, _: object) -> None:
        opened.append(next(Path(path).stem for _, name, path in connection.execute("PRAGMA database_list")))

    def executed(_: object, __: object, statement: str, *___: object) -> None:
        if 'table_xinfo("asset_keys")' in statement:
            asked.append(statement)

    sa.event.listen(sa.pool.QueuePool, "connect", connected)
    sa.event.listen(sa.Engine, "before_cursor_execute", executed)
    try:
        run_id = run(instance, "2024-03-04", "2024-03-08")
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", executed)
        sa.event.remove(sa.pool.QueuePool, "connect", connected)
    # Of five materializations and as many planned ones the first asks, by two statements of SQLAlchemy's.
    assert len(asked) == 2
    # Dagster makes a file's tables, and looks for one, beside a connection that is in use.
    assert opened.count(run_id) <= 2
    assert opened.count("index") <= 2


def test_a_log_meets_no_connection_to_the_files_of_an_earlier_one(tmp_path: Path) -> None:
    """The demo and the tests remove a home, and begin again in its place."""
    for _ in range(2):
        log = EventLog(str(tmp_path / "runs"))
        assert log.all_asset_keys() == []
        log.dispose()
        assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["index.db"]
        shutil.rmtree(tmp_path / "runs")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="open files are listed in /proc")
def test_a_log_reads_no_migrations_for_a_file_that_has_its_tables(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = run(instance, "2024-03-04", "2024-03-08")
    events = len(instance.all_logs(run_id))
    assert stored(instance, "SELECT count(*) FROM alembic_version", f"runs/{run_id}.db") == [(1,)]

    def read(*_: object) -> None:
        raise AssertionError("the scripts of the migrations were read")

    monkeypatch.setattr(sqlite_event_log, "check_alembic_revision", read)
    with dg.DagsterInstance.from_config(instance.root_directory) as other:
        assert len(other.all_logs(run_id)) == events > 0
        with pytest.raises(AssertionError, match="were read"):
            other.all_logs("00000000-0000-4000-8000-000000000000")


def test_a_log_keeps_few_files_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_history, "_FILES_OPEN", 2)
    log = EventLog(str(tmp_path))
    for number in range(4):
        log.get_logs_for_run(f"run{number}")
    held = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink() and link.exists()]
    assert sum(name.startswith(str(tmp_path)) and name.endswith(".db") for name in held) == 2
    log.dispose()
