"""How long tests wait for what has to come. What works comes no later for a long patience."""

from __future__ import annotations

import time
from collections.abc import Callable

# A busy or cold machine takes five times as long as a quiet one.
PATIENCE_S = 240
RUN_PATIENCE_S = 900
"""How long a server may take until it answers, and Dagster until a run, with all that waits before it, has ended."""


def wait_until(
    happens: Callable[[], bool],
    seconds: float = PATIENCE_S,
    *,
    about: Callable[[], str] = lambda: "",
    every: float = 0.05,
) -> None:
    """Asks `every` so many seconds until something has happened.

    Raises:
        AssertionError: it doesn't happen in `seconds`; with what `about` says then.
    """
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, f"waited {seconds} s. {about()}"
        time.sleep(every)
