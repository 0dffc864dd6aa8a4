"""Runs a module in a child process, and ends the child with everything that it started. A child limits its own memory;
its caller interprets its exit status.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def ask(module: str, question: bytes, seconds: float) -> tuple[int, bytes]:
    """Starts a module with a question on its input; returns its exit status, negative for a signal, and its output.

    Raises:
        TimeoutError: it has not ended after so many seconds.
    """
    with started(module) as process:
        try:
            answer, _ = process.communicate(question, seconds)
        except subprocess.TimeoutExpired as expired:
            raise TimeoutError(f"{module} took more than {seconds:g} s") from expired
    return process.returncode, answer


@contextmanager
def started(module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Starts a module, with pipes to its input and from its output. Kills it and everything that it started when the
    block ends, for whatever reason.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
