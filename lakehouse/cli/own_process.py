"""A query of `lakehouse sql --locked` in a process of its own, whose end is explained by the one that started it.

What DuckDB neither counts nor interrupts ends the process by a signal: the alarm after the time limit, an abort where
memory can't be had. Code in that process can't be relied on then, as the query may hold Python's lock. So the command
forks before any thread is started, waits, says which limit was met, and removes what the query left: the partial
output and what it had spilled.
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
"""How long the process has to end by itself after Ctrl-C."""


def run_in_own_process(
    answer: Callable[[], None], output: Path | None, print_error: Callable[[Exception], None]
) -> int:
    """Runs `answer`, which writes to `output`, in a process of its own, and returns the command's exit status: that of
    SystemExit where `answer` raises it.
    """
    config = settings()
    limits = Limits(config.locked_memory, config.locked_seconds)
    sys.stdout.flush()
    process = multiprocessing.get_context("fork").Process(target=partial(_stoppable, answer))
    # What arrives before both are ready to be stopped waits until they are.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    process.start()
    # What stops the command is passed on, but for what it ignores (nohup).
    heeded = [number for number in _STOPS[1:] if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda *_: process.terminate()) for number in heeded}
    interrupted = False
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        process.join()
    except KeyboardInterrupt:
        # A terminal sends Ctrl-C to both; who interrupts the command alone means the query, too.
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
        # Rust and C++ abort where an allocation fails; the system kills what takes too much.
        return limits.out_of_memory()
    return QueryNotAllowed(f"stopped: {ended_by.name} ended the query's process; ask in another way")
