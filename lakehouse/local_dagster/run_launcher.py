"""Launches runs in processes that stay for the next ones.

Dagster starts a process for each run. Importing Dagster, dbt and the lake, and making the definitions, takes such a
process longer than the work of a small update. A process of ours (`run_worker`) keeps them from run to run. It executes
one run at a time: a run that comes while all are busy gets a new process, so there are as many as the queue lets runs
go on at once.

A process ends with the one that launched it, after a run that didn't succeed, when it has taken much memory, and when a
file of the project has changed since it began.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._serdes import ConfigurableClassData, serialize_value

import lakehouse
from lakehouse.components.run_processes import why_dead
from lakehouse.local_dagster import run_worker
from lakehouse.settings import beside_package, settings

_DEFINITIONS = f"{lakehouse.__name__}.definitions"
_MADE = {"__pycache__", "target", "logs"}
"""Folders with what was made of the project's files."""


@dataclass
class _Worker:
    """A process that executes runs, and this end of the socket by which it is given them."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    project: int
    """Digest of the project's files as it was when the process began."""
    run_id: str | None = None
    is_ending: bool = False

    def give(self, run_id: str) -> bool:
        """Gives it a run; False if it has ended."""
        try:
            _send(self.channel, run_id)
        except OSError:
            return False
        self.run_id = run_id
        return True

    def end(self) -> None:
        """Makes it end, at once if it is idle, and by interrupting its run otherwise."""
        self.is_ending = True
        # Not by closing: the file that reads its answers would keep the socket open.
        with suppress(OSError):
            self.channel.shutdown(socket.SHUT_RDWR)


class RunLauncher(dg.DefaultRunLauncher):
    """Dagster's launcher, with runs of this project's definitions in processes that stay. It tells run monitoring
    whether a run's process is alive. Runs of other code locations start as Dagster starts them.
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(inst_data)
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()

    def launch_run(self, context: LaunchRunContext) -> None:
        """Gives the run to an idle process, or to a new one."""
        run = context.dagster_run
        if not _is_ours(run):
            super().launch_run(context)
            return
        project = _project_files()
        with self._lock:
            while (worker := self._idle(project)) is not None:
                if worker.give(run.run_id):
                    break
                self._workers.remove(worker)
            else:
                self._start(project, run.run_id)
        self._run_ids.add(run.run_id)

    def _idle(self, project: int) -> _Worker | None:
        """A process that can take a run. Those that know another state of the project's files are ended."""
        for worker in [each for each in self._workers if each.run_id is None and each.project != project]:
            worker.end()
            self._workers.remove(worker)
        return next((each for each in self._workers if each.run_id is None and not each.is_ending), None)

    def _start(self, project: int, run_id: str) -> None:
        ours, theirs = socket.socketpair()
        # Before there is a process: if it ends before it has read the run, `_attend` fails the run all the same.
        _send(ours, run_id)
        with theirs:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    run_worker.__name__,
                    str(theirs.fileno()),
                    serialize_value(self._instance.get_ref()),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        worker = _Worker(process, ours, project, run_id)
        self._workers.append(worker)
        threading.Thread(target=self._attend, args=(worker,), name=f"run worker {process.pid}", daemon=True).start()

    def _attend(self, worker: _Worker) -> None:
        """Notes when the process has ended a run, and when it has ended itself."""
        with suppress(OSError), worker.channel.makefile() as lines:
            for line in lines:
                with self._lock:
                    worker.run_id, worker.is_ending = None, worker.is_ending or line.strip() == run_worker.LAST
        worker.process.wait()
        worker.channel.close()
        with self._lock:
            if worker in self._workers:
                self._workers.remove(worker)
        if worker.run_id is not None and self.has_instance:
            run = self._instance.get_run_by_id(worker.run_id)
            if run is not None and not run.is_finished:
                self._instance.report_run_failed(
                    run, f"The run's process {worker.process.pid} has ended with status {worker.process.returncode}."
                )

    def terminate(self, run_id: str) -> bool:
        """Asks the run's process to end the run: it looks at the run's status every second. False if it is over."""
        run = self._instance.get_run_by_id(run_id)
        if run is not None and GRPC_INFO_TAG in run.tags:
            return super().terminate(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        return True

    def dispose(self) -> None:
        """Ends the processes."""
        with self._lock:
            for worker in self._workers:
                worker.end()

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """FAILED if the run's process has ended. A run without a lock file counts as running."""
        reason = why_dead(self._instance, run.run_id)
        return CheckRunHealthResult(WorkerStatus.FAILED, reason) if reason else _RUNNING


def _send(channel: socket.socket, run_id: str) -> None:
    channel.sendall(f"{run_id}\n".encode())


_RUNNING = CheckRunHealthResult(WorkerStatus.RUNNING)


def _is_ours(run: dg.DagsterRun) -> bool:
    """Whether a run is of this project's definitions, in this environment."""
    if run.job_code_origin is None:
        return False
    made_by = run.job_code_origin.repository_origin
    pointer = made_by.code_pointer
    return (
        made_by.executable_path in (None, sys.executable)
        and isinstance(pointer, ModuleCodePointer)
        and pointer.module == _DEFINITIONS
    )


def _project_files() -> int:
    """A digest of the names, sizes and times of the files that definitions and runs are made of: to read them all takes
    ten times as long.
    """
    own = settings().own_defs
    roots = [Path(lakehouse.__file__).parent, beside_package("dbt_project"), *([own] if own else [])]
    return hash(tuple(known for root in roots for known in sorted(_files_below(root))))


def _files_below(root: Path) -> Iterator[tuple[str, int, int]]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _MADE]
        for name in files:
            path = os.path.join(folder, name)
            try:
                known = os.stat(path)
            except OSError:
                continue  # it was removed meanwhile
            yield path, known.st_size, known.st_mtime_ns
