"""Processes that are killed in the middle of a run of Dagster's."""

from __future__ import annotations

import os
import signal

import dagster as dg

from lakehouse.components.run_processes import running_here


def killed_process_of(instance: dg.DagsterInstance, run_id: str) -> int:
    """A process that enters a run and is killed in it."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        with running_here(instance, run_id):
            os.write(write, b"!")
            signal.pause()
    os.read(read, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return child
