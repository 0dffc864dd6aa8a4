"""Which sessions have all the objects that they need. A header-only object means that nothing traded; a missing
or failed one means missing data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

from lakehouse.market.calendar import SessionCalendar
from lakehouse.sources.config import BarFileConfig

if TYPE_CHECKING:
    import polars as pl


def missing_objects(
    config: BarFileConfig,
    calendar: SessionCalendar,
    readable: Iterable[str],
    sessions: Sequence[date],
    due_by: datetime | None = None,
) -> dict[date, list[str]]:
    """Session -> what it misses, such as `2017-06-29 hour 12`; complete sessions are left out.

    Args:
        readable: names of the objects of these sessions that were loaded or found empty.
        due_by: leave out what a source can't have published by then, as its hour or day was not over.
    """
    there = {config.object_hour(name) for name in readable}
    missing: dict[date, list[str]] = {}
    for session in sessions:
        for expected in config.expected_objects(session, calendar):
            if expected not in there and (due_by is None or config.object_end(*expected) <= due_by):
                day, hour = expected
                missing.setdefault(session, []).append(str(day) if hour is None else f"{day} hour {hour:02}")
    return missing


def completeness(
    config: BarFileConfig, calendar: SessionCalendar, ledger: pl.DataFrame, sessions: Sequence[date]
) -> pl.DataFrame:
    """Returns (session, is_complete) for each of `sessions`, by the source's ledger."""
    import polars as pl

    readable = ledger.filter((pl.col("status") != "failed") & pl.col("session").is_in(list(sessions)))["object"]
    missing = missing_objects(config, calendar, readable.to_list(), sessions)
    return pl.DataFrame(
        {"session": list(sessions), "is_complete": [session not in missing for session in sessions]},
        schema={"session": pl.Date, "is_complete": pl.Boolean},
    )
