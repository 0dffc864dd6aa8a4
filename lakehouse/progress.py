"""How far a step is. The terminal shows a bar, a Dagster run writes lines; the steps themselves only call the
`Progress` that they are given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Progress = Callable[[str, int, int], None]
"""Told (what is being done, steps done, steps in all)."""

_SECONDS_BETWEEN_LINES = 5.0
_shown: ContextVar[Progress | None] = ContextVar("shown", default=None)


@contextmanager
def shown_by(show: Progress) -> Iterator[None]:
    """Whoever runs a pipeline in this process sees its progress by `show`."""
    token = _shown.set(show)
    try:
        yield
    finally:
        _shown.reset(token)


def progress(write_line: Callable[[str], None]) -> Progress:
    """The process's own display, or else a line by `write_line` every few seconds."""
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
