"""Progress of steps. The terminal shows a bar, a Dagster run writes log lines; steps only call the `Progress` that they
are given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Progress = Callable[[str, int, int], None]
"""Called with (description, steps done, total steps)."""

_SECONDS_BETWEEN_LINES = 5.0
_shown: ContextVar[Progress | None] = ContextVar("shown", default=None)


@contextmanager
def shown_by(show: Progress) -> Iterator[None]:
    """Inside the block, the progress of pipelines in this process is passed to `show`."""
    token = _shown.set(show)
    try:
        yield
    finally:
        _shown.reset(token)


def progress(write_line: Callable[[str], None]) -> Progress:
    """The process's display if it has one, else a line by `write_line` every few seconds."""
    show = _shown.get()
    if show is not None:
        return show
    last = time.monotonic()

    def lines(what: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES or done == total:
            last = time.monotonic()
            write_line(f"{what}: {done:,} of {total:,}")

    return lines
