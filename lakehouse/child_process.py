"""Asks a module that runs as a program of its own, and ends it when it takes too long. What it may take of memory, it
limits itself; what the status that it ends with means is said by those who ask.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys


def ask(module: str, question: bytes, seconds: float) -> tuple[int, bytes]:
    """Starts a module with a question on its input; returns its exit status, negative for a signal, and its output.
    With it ends what it has started, also where the wait is interrupted.

    Raises:
        TimeoutError: it has not ended after so many seconds.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            answer, _ = process.communicate(question, seconds)
        except subprocess.TimeoutExpired as expired:
            raise TimeoutError(f"{module} took more than {seconds:g} s") from expired
        finally:
            _end(process)
    return process.returncode, answer


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
