"""Runs analyses in a child process that ends when it takes too much time or memory, whatever their tasks do.

The parent starts `child` as a program, writes pickled `Request`s to its input, and reads pickled `Outcome`s from its
output. Both are processes of the same installation; rows, inputs and bundles of others arrive as checked JSON.
"""

from __future__ import annotations

import pickle
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from lakehouse.analyses.registry import Task
from lakehouse.analyses.spec import AnalysisError, Definition
from lakehouse.analyses.tables import Reading
from lakehouse.child_process import ask
from lakehouse.lake.lake import Lake

NO_MEMORY = 70
"""Exit status of a child that Python ended for want of memory."""


@dataclass(frozen=True)
class Limits:
    """What a run may take: seconds, and megabytes of memory besides those of the interpreter and its libraries (on
    Linux).
    """

    seconds: float = 300.0
    megabytes: int = 2_048


@dataclass(frozen=True)
class Request:
    """A run.

    Args:
        open_lake: opens the lake that tasks read.
        tasks: registered besides the installed ones; their functions must be importable.
        until_order: the last order to run.
        until: leaves out rows of the lake with later dates.
        scale_last: multiplies the numbers of the last row that is read.
        only_figures: returns the figures of what was made instead of the values.
    """

    definition: Definition
    data: Mapping[str, Any]
    open_lake: Callable[[], Lake]
    tasks: tuple[Task, ...] = ()
    until_order: int | None = None
    until: date | None = None
    scale_last: float | None = None
    only_figures: bool = False
    limits: Limits = Limits()


@dataclass(frozen=True)
class Outcome:
    """What came of a run: the keys that were made (or only their figures), the state and seconds of each row by its
    place, what was read of the lake, and the error that ended it.
    """

    made: Mapping[str, Any] = field(default_factory=dict)
    states: Mapping[int, str] = field(default_factory=dict)
    seconds: Mapping[int, float] = field(default_factory=dict)
    readings: tuple[Reading, ...] = ()
    error: str | None = None
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def run_limited(requests: list[Request]) -> list[Outcome]:
    """Runs analyses, one after the other, in a child process. The limits of each are those of the first.

    Raises:
        AnalysisError: a limit was reached, or the process was ended otherwise.
    """
    limits = requests[0].limits
    sent = pickle.dumps(limits) + pickle.dumps(requests)
    try:
        status, answer = ask(f"{__package__}.child", sent, limits.seconds)
    except TimeoutError:
        raise _out_of_time(limits) from None
    if status == 0:
        found: list[Outcome] = pickle.loads(answer)
        return found
    if -status in (signal.SIGXCPU, signal.SIGALRM):
        raise _out_of_time(limits)
    if status == NO_MEMORY or -status in (signal.SIGABRT, signal.SIGKILL, signal.SIGSEGV):
        raise AnalysisError(
            f"the run took more than {limits.megabytes:,} MB of memory and was ended; read fewer rows, or allow more "
            "by --megabytes, or by megabytes in its defs.yaml"
        )
    raise AnalysisError(f"the run's process ended with status {status}; its messages say why")


def _out_of_time(limits: Limits) -> AnalysisError:
    return AnalysisError(
        f"the run took more than {limits.seconds:g} s and was ended; shorten its range, or allow more by --seconds, or "
        "by seconds in its defs.yaml"
    )
