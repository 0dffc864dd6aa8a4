"""Whether a session is whole, by a plain computation."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import polars as pl


def is_whole(
    came: bool, bars: int, interval: timedelta, open_at: datetime, last_end_at: datetime, close_at: datetime
) -> bool | None:
    """False where an object is missing. None where an instrument traded in at least half of the intervals up to its
    last bar (of three or more), and then was silent for at least 15% of the session, which its trading makes less
    likely than one in a hundred.
    """
    elapsed, silent = (last_end_at - open_at) / interval, (close_at - last_end_at) / interval
    if not came:
        return False
    if bars < 3 or 2 * bars < elapsed or silent < 0.15 * (elapsed + silent):
        return True
    chance = max(1 - (bars + 1) / (elapsed + 2), 0.0) ** max(silent, 0)
    return None if chance < 0.01 else True


def all_came(sessions: list[date]) -> pl.DataFrame:
    """What `rules.daily` is told of sessions whose objects all came and whose hours aren't known."""
    moment = pl.lit(None, pl.Datetime("us", "UTC"))
    return pl.DataFrame({"session": sessions}).with_columns(is_complete=True, open_at=moment, close_at=moment)
