"""Sessions: the partitions of market data, which are the trading days of an exchange."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from lakehouse.domains.market.calendar import SessionCalendar
from lakehouse.domains.market.calendar_cache import load_calendar
from lakehouse.ingest.partitioning import Unit


@dataclass(frozen=True)
class Sessions:
    """The sessions of an exchange from a day on, as `Partitioning`.

    Args:
        code: of exchange_calendars, such as XETR.
        zone: the exchange's own time zone.
        after_close: how long after the calendar's close the regular segment goes on (the auction).
        kept_in: folder in which built calendars are kept.
    """

    code: str
    first: date
    zone: str
    after_close: timedelta
    kept_in: Path

    @property
    def calendar(self) -> SessionCalendar:
        """The exchange's calendar; read, or built, when it is needed first."""
        return load_calendar(self.code, self.first, self.zone, self.kept_in)

    @property
    def unit(self) -> Unit:
        return "day"

    @property
    def last(self) -> date | None:
        return self.calendar.sessions[-1]

    @property
    def without(self) -> str:
        """The reason to reject a row whose day is not a session."""
        return f"the day is no session of {self.code}"

    def of(self, day: date) -> date | None:
        return day if self.calendar.is_session(day) else None

    def on_or_after(self, day: date) -> date | None:
        return self.calendar.session_on_or_after(day)

    def between(self, first: date, last: date) -> list[date]:
        return self.calendar.between(first, last)

    def over_at(self, partition: date) -> datetime:
        """When the session's regular segment is over, the closing auction included."""
        return self.calendar.hours(partition)[1] + self.after_close
