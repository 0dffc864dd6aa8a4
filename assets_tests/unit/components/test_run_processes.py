"""A run whose process was killed is recognized, by whichever process looks, and no other run is."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
from dagster._core.launcher import WorkerStatus

from assets_tests.support.killed_process import killed_process_of
from lakehouse.components.run_processes import fail_dead_runs, one_process, running_here
from lakehouse.local_dagster.run_launcher import RunLauncher

RUN = "00000000-0000-4000-8000-000000000000"
STARTED = dg.DagsterRunStatus.STARTED


@dg.op
def holds_its_lock(context: dg.OpExecutionContext) -> None:
    assert health(context.instance, context.run_id) is WorkerStatus.RUNNING
    assert (Path(context.instance.root_directory) / "processes" / context.run_id).stat().st_size > 0


@dg.job(executor_def=one_process)
def some_job() -> None:
    holds_its_lock()


def started(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRun:
    return instance.create_run_for_job(some_job, run_id=run_id, status=STARTED)


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def health(instance: dg.DagsterInstance, run_id: str) -> WorkerStatus:
    """What the instance's launcher answers run monitoring."""
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert isinstance(instance.run_launcher, RunLauncher)
    return instance.run_launcher.check_run_worker_health(run).status


def test_a_killed_run_is_marked_failed_with_its_process(instance: dg.DagsterInstance) -> None:
    run = started(instance, RUN)
    process = killed_process_of(instance, run.run_id)

    assert health(instance, run.run_id) is WorkerStatus.FAILED
    assert fail_dead_runs(instance) == [run.run_id]
    assert status(instance, run.run_id) is dg.DagsterRunStatus.FAILURE
    said = [event.message for event in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)]
    assert f"process {process} on " in said[0]
    assert fail_dead_runs(instance) == []
    assert list((Path(instance.root_directory) / "processes").iterdir()) == []


def test_a_run_that_has_a_process_is_left_alone(instance: dg.DagsterInstance) -> None:
    with running_here(instance, RUN):
        started(instance, RUN)
        assert health(instance, RUN) is WorkerStatus.RUNNING
        assert fail_dead_runs(instance) == []
    assert status(instance, RUN) is STARTED


def test_a_run_that_its_killed_process_had_ended_keeps_its_outcome(instance: dg.DagsterInstance) -> None:
    run = started(instance, RUN)
    instance.report_run_failed(run, "the reason")
    killed_process_of(instance, RUN)
    assert fail_dead_runs(instance) == []
    said = [event.message for event in instance.all_logs(RUN, of_type=dg.DagsterEventType.RUN_FAILURE)]
    assert said == ["the reason"]


def test_a_lock_file_without_a_holder_says_nothing(instance: dg.DagsterInstance) -> None:
    """Its process has made the file and not yet taken the lock."""
    started(instance, RUN)
    folder = Path(instance.root_directory) / "processes"
    folder.mkdir()
    (folder / RUN).touch()
    assert fail_dead_runs(instance) == []
    assert health(instance, RUN) is WorkerStatus.RUNNING


def test_a_run_that_another_program_executes_is_left_to_the_time_limit(instance: dg.DagsterInstance) -> None:
    started(instance, RUN)
    assert fail_dead_runs(instance) == []
    assert health(instance, RUN) is WorkerStatus.RUNNING
    assert instance.run_monitoring_max_runtime_seconds > 0


def test_the_executor_holds_the_lock_of_its_run(instance: dg.DagsterInstance) -> None:
    """The executor of the process that Dagster starts for a run, not the one of `execute_in_process`."""
    result = dg.execute_job(dg.reconstructable(some_job), instance)
    assert result.success


def test_the_memory_of_a_run_s_process_is_its_own() -> None:
    """Linux tells a process that it has taken what the one had that started it."""
    asked = "from lakehouse.local_dagster.run_worker import _memory_mib; print(_memory_mib())"
    large = "import subprocess, sys; taken = b'1' * 900_000_000; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    answer = subprocess.run([sys.executable, "-c", large, asked], capture_output=True, text=True, check=True)
    assert 50 < float(answer.stdout) < 700
