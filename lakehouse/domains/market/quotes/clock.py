"""The clock of a feed. Slots begin at whole multiples of their length since 1970, so they don't drift over long runs
or restarts.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def slot_after(moment: datetime, poll_interval_s: float) -> datetime:
    """Returns the start of the first slot after `moment`."""
    every = timedelta(seconds=poll_interval_s)
    return _EPOCH + ((moment - _EPOCH) // every + 1) * every


async def until(moment: datetime, stop: asyncio.Event) -> bool:
    """Waits until `moment`; returns False if `stop` was set first."""
    # In a loop: the system clock may be adjusted while we wait.
    while (left := (moment - datetime.now(UTC)).total_seconds()) > 0:
        try:
            await asyncio.wait_for(stop.wait(), min(left, 60.0))
        except TimeoutError:
            continue
        return False
    return not stop.is_set()
