"""Detects Dagster runs whose process has died.

A run whose process was killed stays STARTED in Dagster's storage: sensors wait for it, and it occupies a place in the
queue. Dagster's run monitoring asks the run launcher about each run, but the default launcher doesn't support that.

The process of a run holds a lock on a file, `<DAGSTER_HOME>/processes/<run id>`, until it ends, however it ends. If
another process can take the lock, the run is dead. Unlike a process id, a lock is not reused, knows no clock, and holds
across containers and hosts that share the folder. A run without a file is left to Dagster's time limits
(`run_monitoring` in dagster.yaml): it is still being launched, or something other than this project executes it.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan
    from dagster._core.execution.retries import RetryMode
    from dagster._core.execution.step_dependency_config import StepDependencyConfig

_kept: list[IO[str]] = []
"""The locks that this process holds until it ends, or releases them."""


def _lock_file(instance: dg.DagsterInstance, run_id: str) -> Path:
    return Path(instance.root_directory) / "processes" / run_id


def _hold(path: Path) -> IO[str]:
    """Takes the lock, then writes its holder: a file that is still empty says nothing about its run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file


def _last_holder(path: Path) -> str | None:
    """The process that held the lock and has ended; None if the lock is held, or never was."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return file.read().strip() or None
    except (FileNotFoundError, BlockingIOError):
        return None


@contextmanager
def running_here(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Marks this process as the executor of a run inside the block. Enter it before the run is created."""
    path = _lock_file(instance, run_id)
    with _hold(path):
        yield
        path.unlink()


def release_locks() -> None:
    """Releases the locks of the runs that this process has ended, since it executes others."""
    while _kept:
        with _kept.pop() as file:
            Path(file.name).unlink(missing_ok=True)


def why_dead(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """The reason why a run is dead: its process has ended without ending it. None if it goes on, or hasn't begun."""
    holder = _last_holder(_lock_file(instance, run_id))
    return _ended(holder) if holder else None


def fail_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Marks runs as failed whose process ended without finishing them; returns their ids."""
    failed = []
    for path in sorted(_lock_file(instance, "").glob("*")):
        if (holder := _last_holder(path)) is None:
            continue
        # Read the run only now that its process can't write any more.
        run = instance.get_run_by_id(path.name)
        if run is not None and not run.is_finished:
            instance.report_run_failed(run, _ended(holder))
            failed.append(run.run_id)
        path.unlink(missing_ok=True)
    return failed


def _ended(holder: str) -> str:
    return f"The run's {holder} has ended without ending the run: it was killed, or the machine went down."


class _LockingExecutor(dg.Executor):
    """Wraps another executor and holds the run's lock until the process ends or releases it, since a run continues for
    a moment after its last step.
    """

    def __init__(self, executor: dg.Executor) -> None:
        self._executor = executor

    @property
    def retries(self) -> RetryMode:
        return self._executor.retries

    @property
    def step_dependency_config(self) -> StepDependencyConfig:
        return self._executor.step_dependency_config

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        _kept.append(_hold(_lock_file(plan_context.instance, plan_context.run_id)))
        yield from self._executor.execute(plan_context, execution_plan)


@dg.executor(name="in_process", config_schema=dg.in_process_executor.config_schema.as_field())
def one_process(context: dg.InitExecutorContext) -> dg.Executor:
    """Executes all steps of a run in the process that Dagster starts for it."""
    create = dg.in_process_executor.executor_creation_fn
    assert create is not None
    return _LockingExecutor(create(context))
