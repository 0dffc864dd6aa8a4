"""Runs a query of `lakehouse sql --locked` in a child process, and explains in the parent why it ended.

Work that DuckDB neither accounts for nor interrupts ends the process by a signal: the alarm after the time limit, or an
abort if memory can't be allocated. Code in that process can't run then, as the query may hold the GIL. So the command
forks before it starts any thread, waits, reports the limit that was hit, and deletes the partial output and spilled
files.
"""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lakehouse.cli.results import partial_of
from lakehouse.errors import QueryNotAllowed
from lakehouse.lake.engine import spill_folder
from lakehouse.lake.locked import Limits
from lakehouse.settings import settings

_FAILED = 2
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE_S = 1.0
"""Time for the child to exit after Ctrl-C."""


def run_in_own_process(
    answer: Callable[[], None], output: Path | None, print_error: Callable[[Exception], None]
) -> int:
    """Runs `answer`, which writes to `output`, in a child process, and returns the command's exit status: that of
    SystemExit if `answer` raises it.
    """
    config = settings()
    limits = Limits(config.locked_memory, config.locked_seconds)
    sys.stdout.flush()
    process = multiprocessing.get_context("fork").Process(target=partial(_stoppable, answer))
    # Block signals until both processes can handle them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    process.start()
    # Pass on signals that stop the command, except those that it ignores (nohup).
    heeded = [number for number in _STOPS[1:] if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda *_: process.terminate()) for number in heeded}
    interrupted = False
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        process.join()
    except KeyboardInterrupt:
        # A terminal sends Ctrl-C to both processes; an interrupt of the command alone must reach the query, too.
        before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
        process.join(_GRACE_S)
        process.kill()
        process.join()
        interrupted = True
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert process.pid is not None
    assert process.exitcode is not None
    if process.exitcode >= 0:
        return process.exitcode
    shutil.rmtree(spill_folder(process.pid), ignore_errors=True)
    if output is not None:
        partial_of(output, process.pid).unlink(missing_ok=True)
    if interrupted:
        return 128 + signal.SIGINT
    ended_by = signal.Signals(-process.exitcode)
    if ended_by in _STOPS:
        return 128 + ended_by
    print_error(_explained(ended_by, limits))
    return _FAILED


def _stoppable(answer: Callable[[], None]) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    answer()


def _explained(ended_by: signal.Signals, limits: Limits) -> Exception:
    if ended_by is signal.SIGALRM:
        return limits.out_of_time()
    if ended_by in (signal.SIGABRT, signal.SIGKILL):
        # Rust and C++ abort if an allocation fails; the OOM killer kills processes that take too much.
        return limits.out_of_memory()
    return QueryNotAllowed(f"stopped: {ended_by.name} ended the query's process; ask in another way")
