"""Sessions of an exchange, from exchange_calendars, as plain frames.

A session is a trading day of a calendar; its date never comes from the UTC date of a timestamp. Building a
calendar imports pandas, which costs more than most runs' own work, so the built frame can be handed in (see
`lakehouse.domains.market.calendar_cache`, which keeps it on disk).
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from lakehouse.errors import LakehouseError, SourceError, in_one_line

if TYPE_CHECKING:
    import polars as pl


class NoSuchSession(LakehouseError):
    """A date is outside the calendar or is not one of its sessions."""


def build_sessions(calendar: str, first: date) -> pl.DataFrame:
    """The sessions of `calendar` from `first` on, as far ahead as exchange_calendars knows (about a year).

    Returns: calendar, session (date), open_at, close_at (UTC, microseconds), is_early_close; sorted by session.

    Raises:
        SourceError: the calendar doesn't reach back to `first`, or ends before it.
    """
    import exchange_calendars
    import polars as pl

    try:
        made = exchange_calendars.get_calendar(calendar, start=first.isoformat())
    # Some calendars lack the holidays of early years, and say it by an error that isn't theirs.
    except (ValueError, NotImplementedError) as error:
        raise SourceError(
            f"the calendar {calendar} has no sessions from {first} on: {in_one_line(error).rstrip('. ')}. "
            "Correct `first_session` or `calendar` in the defs.yaml"
        ) from error
    # By columns: of ten thousand sessions, Python's own objects take twenty times as long.
    opened, closed = (
        pl.Series(moments.dt.tz_convert(None).to_numpy()).dt.cast_time_unit("us").dt.replace_time_zone("UTC")
        for moments in (made.opens, made.closes)
    )
    return pl.DataFrame(
        {
            "calendar": [calendar] * len(made.sessions),
            "session": pl.Series(made.sessions.to_numpy()).cast(pl.Date),
            "open_at": opened,
            "close_at": closed,
            "is_early_close": made.sessions.isin(made.early_closes),
        }
    )


@dataclass(frozen=True)
class SessionCalendar:
    """The sessions of one exchange. `frame` is what `build_sessions` returns; `time_zone` is the exchange's own."""

    name: str
    time_zone: str
    frame: pl.DataFrame

    @cached_property
    def sessions(self) -> list[date]:
        """Every session, ascending."""
        return self.frame["session"].to_list()

    @cached_property
    def _hours(self) -> dict[date, tuple[datetime, datetime]]:
        return {row["session"]: (row["open_at"], row["close_at"]) for row in self.frame.iter_rows(named=True)}

    def hours(self, session: date) -> tuple[datetime, datetime]:
        """Opening and close of a session, UTC.

        Raises:
            NoSuchSession: `session` is not a session.
        """
        try:
            return self._hours[session]
        except KeyError:
            raise NoSuchSession(f"{session} is no session of {self.name}") from None

    def is_session(self, day: date) -> bool:
        """Whether the exchange trades on that day."""
        return day in self._hours

    def session_on_or_after(self, day: date) -> date | None:
        """The session itself, or the one that follows a day without trading; None beyond the calendar's end or
        before its start.

        Whether a day before the first session had trading is unknown, so it is never treated as a day without trading.
        """
        at = bisect.bisect_left(self.sessions, day)
        if at == len(self.sessions) or day < self.sessions[0]:
            return None
        return self.sessions[at]

    def between(self, first: date, last: date) -> list[date]:
        """The sessions from `first` to `last`, both included."""
        return self.sessions[bisect.bisect_left(self.sessions, first) : bisect.bisect_right(self.sessions, last)]

    def until_today(self, first: date) -> list[date]:
        """The sessions from `first` up to today on the exchange's clock."""
        return self.between(first, datetime.now(UTC).astimezone(ZoneInfo(self.time_zone)).date())
