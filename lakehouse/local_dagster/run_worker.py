"""A process that executes runs one after another, as `run_launcher` gives them to it:

    python -m lakehouse.local_dagster.run_worker FD INSTANCE

reads the ids of runs from the socket FD, a line each, and answers each with a line when its run is over. It ends when
the other end is closed; a run that is going on then is interrupted, as Dagster interrupts runs when it ends.
"""

from __future__ import annotations

import os
import queue
import resource
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events import EngineEventData
from dagster._core.instance import InstanceRef
from dagster._grpc.impl import core_execute_run
from dagster._serdes import deserialize_value
from dagster._utils import send_interrupt
from dagster._utils.hosted_user_process import recon_job_from_origin
from dagster._utils.interrupts import capture_interrupts

from lakehouse.components.run_processes import release_locks
from lakehouse.garbage import collect_garbage_rarely
from lakehouse.local_dagster.instance import event_log_kept_open

DONE, LAST = "done", "last"
"""The answers: the run is over, and it takes another; or it ends."""
_CANCELED = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)
_LOOKED_EVERY_S = 1.0
"""How often it looks whether its run is to be canceled."""
_MOST_MEMORY_MIB = 1024
"""A process that has taken more ends after its run, since allocators keep much of it."""


def main() -> None:
    """Executes runs until the other end is closed."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    collect_garbage_rarely()
    given: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    is_running = threading.Event()
    threading.Thread(target=_receive, args=(channel, given, is_running), daemon=True).start()
    with dg.DagsterInstance.from_ref(deserialize_value(sys.argv[2], InstanceRef)) as instance:
        while (run_id := given.get()) is not None:
            is_running.set()
            with event_log_kept_open():
                succeeded = _execute(instance, run_id)
            is_running.clear()
            is_last = not succeeded or _memory_mib() > _MOST_MEMORY_MIB
            with suppress(OSError):
                channel.sendall(f"{LAST if is_last else DONE}\n".encode())
            if is_last:
                return


def _receive(channel: socket.socket, given: queue.SimpleQueue[str | None], is_running: threading.Event) -> None:
    with channel.makefile() as lines:
        for line in lines:
            given.put(line.strip())
    given.put(None)
    if is_running.is_set():
        send_interrupt()


def _execute(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Executes a run, which reports its own faults; returns whether it succeeded."""
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert run.job_code_origin is not None
    process = os.getpid()
    with capture_interrupts(), _cancelable(instance, run_id):
        instance.report_engine_event(f"Given to process {process}.", run, EngineEventData.in_process(process))
        # An error of Dagster's own, which the run has reported, ends this process.
        with suppress(KeyboardInterrupt, DagsterExecutionInterruptedError):
            for _ in core_execute_run(recon_job_from_origin(run.job_code_origin), run, instance, inject_env_vars=False):
                pass
    release_locks()
    run = instance.get_run_by_id(run_id)
    return run is not None and run.is_success


@contextmanager
def _cancelable(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Interrupts this process when the run is to be canceled, until the block ends."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOKED_EVERY_S):
            run = instance.get_run_by_id(run_id)
            if run is None or run.status in _CANCELED:
                send_interrupt()
                return

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def _memory_mib() -> float:
    """The most memory that this process has taken."""
    # Not by getrusage on Linux: it counts what the process had taken that started this one.
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
