"""The clock of a feed: slots begin at whole multiples of their length since 1970, so that restarts and long runs don't
drift.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def slot_after(moment: datetime, poll_interval_s: float) -> datetime:
    """The first slot that begins after `moment`."""
    every = timedelta(seconds=poll_interval_s)
    return _EPOCH + ((moment - _EPOCH) // every + 1) * every


async def until(moment: datetime, stop: asyncio.Event) -> bool:
    """Waits for a moment on the clock; False where `stop` came first."""
    # Again and again: a clock may be set while somebody waits.
    while (left := (moment - datetime.now(UTC)).total_seconds()) > 0:
        try:
            await asyncio.wait_for(stop.wait(), min(left, 60.0))
        except TimeoutError:
            continue
        return False
    return not stop.is_set()
