"""The program of the child process that `limited` starts: runs analyses within the limits that it sets for itself."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import sys
from dataclasses import replace

from lakehouse.analyses.limited import NO_MEMORY, Limits, Outcome, Request
from lakehouse.analyses.registry import Registry
from lakehouse.analyses.runner import Stepper, TaskFailed
from lakehouse.analyses.tables import Tables
from lakehouse.analyses.values import figures
from lakehouse.errors import LakehouseError

_MEGABYTE = 2**20


def _main() -> None:
    """Reads the limits and requests from the input, and writes the outcomes to the output."""
    answers = os.fdopen(os.dup(1), "wb")
    # Tasks that print must not write into the answer.
    os.dup2(2, 1)
    limits: Limits = pickle.load(sys.stdin.buffer)
    # The parent's clock ends the child; this ends it if the parent has died.
    seconds = int(limits.seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (seconds * (os.cpu_count() or 1), resource.RLIM_INFINITY))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    try:
        requests: list[Request] = pickle.load(sys.stdin.buffer)
        registry = Registry.installed()
        _limit_memory(limits.megabytes)
        outcomes = [_outcome(request, registry) for request in requests]
        pickle.dump(outcomes, answers)
        answers.flush()
    except MemoryError:
        os._exit(NO_MEMORY)
    os._exit(0)


def _limit_memory(megabytes: int) -> None:
    """Limits the data that this process may allocate besides what it has. Not the address space: allocators and threads
    reserve much more of that than they use.
    """
    try:
        with open("/proc/self/status") as status:
            own = next(int(line.split()[1]) for line in status if line.startswith("VmData:")) * 1024
    except FileNotFoundError:
        return
    most = own + megabytes * _MEGABYTE
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _outcome(request: Request, registry: Registry) -> Outcome:
    tables = Tables(request.open_lake(), request.until, request.scale_last)
    stepper = Stepper(request.definition, registry.extended(request.tasks), request.data, tables)
    error = None
    try:
        stepper.run(until=request.until_order)
    except TaskFailed as failure:
        if isinstance(failure.__cause__, MemoryError):
            raise failure.__cause__ from None
        error = str(failure)
    except LakehouseError as failure:
        error = str(failure)
    keys = set(request.definition.output_keys)
    made = {key: value for key, value in stepper.data.items() if key in keys}
    found = Outcome(
        {} if request.only_figures else made,
        stepper.progress.states,
        stepper.progress.seconds,
        tuple(tables.readings),
        error,
        {key: figures(value) for key, value in made.items()} if request.only_figures else {},
    )
    return _picklable(found)


def _picklable(outcome: Outcome) -> Outcome:
    """The outcome, or its error if a value can't leave the process."""
    for key, value in outcome.made.items():
        try:
            pickle.dumps(value)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            problem = f"key {key!r} can't be kept: {error}; let its task return plain data"
            return replace(outcome, made={}, error=problem)
    return outcome


if __name__ == "__main__":
    _main()
