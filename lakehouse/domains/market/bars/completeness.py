"""Determines which sessions have all the objects that they need. A header-only object means that nothing was traded; a
missing or failed one means missing data.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, cast

from lakehouse.domains.market.bars.source import BarSource

if TYPE_CHECKING:
    import polars as pl


def missing_objects(
    source: BarSource,
    ledger: pl.DataFrame,
    sessions: Sequence[date],
    due_by: datetime | None = None,
) -> dict[date, list[str]]:
    """Session -> what it misses, such as `2017-06-29 hour 12`; complete sessions are left out.

    Args:
        ledger: the source's rows about (at least) these sessions: object, product, status, published_at,
            first_session, last_session.
        due_by: leave out what a source can't have published by then, as its hour or day was not over.
    """
    import polars as pl

    bars = ledger.filter(pl.col("product") == source.bars.name)
    # A day that the calendar has no longer needs nothing, though the lake may hold rows of it.
    sessions = [session for session in sessions if source.calendar.is_session(session)]
    if source.bars.is_asked:
        return _unanswered(source, bars, sessions, due_by)
    if not sessions:
        return {}
    if source.bars_config.objects is not None and source.bars_config.objects.holds == "history":
        return _cut(source, bars, sessions, due_by)
    within = (pl.col("first_session") <= max(sessions)) & (pl.col("last_session") >= min(sessions))
    about = bars.filter(within).sort("object")
    readable = pl.col("status") != "failed"
    loaded = [named for name in about.filter(readable)["object"] if (named := source.bars.parse_name(name))]
    there = {(named.first_day, named.hour) for named in loaded}
    missing: dict[date, list[str]] = {}
    for session in sessions:
        for day, hour in source.expected_objects(session):
            if (day, hour) not in there and (due_by is None or source.bars_config.object_end(day, hour) <= due_by):
                missing.setdefault(session, []).append(str(day) if hour is None else f"{day} hour {hour:02}")
    # Where an hour or day comes in several objects, one an instrument, one that can't be read is missed beside others.
    values = [named.values for named in loaded]
    failed = about.filter(~readable).select("first_session", "object").unique(maintain_order=True)
    for session, name in failed.filter(pl.col("first_session").is_in(list(sessions))).iter_rows():
        named = source.bars.parse_name(name)
        if named and (named.first_day, named.hour) in there and named.values not in values:
            missing.setdefault(session, []).append(name)
    return missing


def _unanswered(
    source: BarSource,
    ledger: pl.DataFrame,
    sessions: Sequence[date],
    due_by: datetime | None,
) -> dict[date, list[str]]:
    """For an API: a session misses each request of its month that was last answered before the session closed. Requests
    that were never answered don't count, since their symbol may not exist.
    """
    import polars as pl

    answered = ledger.filter(pl.col("status") != "failed").with_columns(
        month=pl.col("first_session").dt.truncate("1mo")
    )
    newest = answered.group_by("object", "month").agg(pl.col("published_at", "last_session").max())
    missing: dict[date, list[str]] = {}
    for session in sessions:
        closed = source.regular_end(session)
        if due_by is not None and closed > due_by:
            continue
        about = newest.filter(pl.col("month") == session.replace(day=1))
        late = about.filter(pl.col("published_at") < closed)
        # A session that no answer came after the beginning of was not asked for yet.
        if late.height and about.filter(pl.col("last_session") >= session).height:
            missing[session] = sorted(late["object"].to_list())
    return missing


def _cut(
    source: BarSource,
    ledger: pl.DataFrame,
    sessions: Sequence[date],
    due_by: datetime | None,
) -> dict[date, list[str]]:
    """For histories: a session misses the rest of itself if every history that reaches it was published before its
    close. What came after the newest history isn't missed, since archives are downloaded now and then.
    """
    import polars as pl

    loaded = ledger.filter(pl.col("status") != "failed").select("published_at", "last_session")
    missing: dict[date, list[str]] = {}
    for session in sessions:
        closed = source.regular_end(session)
        newest = cast("datetime | None", loaded.filter(pl.col("last_session") >= session)["published_at"].max())
        if (due_by is None or closed <= due_by) and newest is not None and newest < closed:
            missing[session] = ["a history published after its close"]
    return missing


def completeness(source: BarSource, ledger: pl.DataFrame, sessions: Sequence[date]) -> pl.DataFrame:
    """Returns (session, is_complete, open_at, close_at) for each of `sessions`: whether every object came, by the
    source's ledger, and the calendar's hours (NULL for a day that is no session of it any more).
    """
    import polars as pl

    missing = missing_objects(source, ledger, sessions)
    came = pl.DataFrame(
        {"session": list(sessions), "is_complete": [session not in missing for session in sessions]},
        schema={"session": pl.Date, "is_complete": pl.Boolean},
    )
    hours = source.calendar.frame.select("session", "open_at", "close_at")
    return came.join(hours, on="session", how="left")
