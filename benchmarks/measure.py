"""Whole processes, measured: wall and CPU seconds and peak memory, as the kernel counts them."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Measured:
    """One process from its start to its end, children included: seconds, and MiB at the peak."""

    wall: float
    cpu: float
    peak: float
    output: str


def measure(command: Sequence[str], environment: Mapping[str, str]) -> Measured:
    """Runs a command to its end.

    Raises:
        RuntimeError: it did not end well; with what it printed.
    """
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        output.seek(0)
        text = output.read()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{text}")
    return Measured(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text)


def middle(values: Sequence[float]) -> float:
    """The median, rounded as it is shown."""
    return round(median(values), 2)
