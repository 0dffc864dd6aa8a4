"""Sessions: the partitions of market data, which are the trading days of an exchange."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from lakehouse.domains.market.calendar import CalendarSpec, SessionCalendar
from lakehouse.domains.market.calendar_cache import load_calendar
from lakehouse.ingest.partitioning import Unit

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Sessions:
    """The sessions of an exchange from a day on, as `Partitioning`.

    A session is named by its date and lasts from its opening to its close, which may be on two dates (futures open on
    the evening before). What lies outside every session counts to the session of its date on the exchange's clock, as
    bars before the opening and after the close do.

    Args:
        spec: which sessions there are.
        after_close: how long after the calendar's close the regular segment goes on (the auction).
        kept_in: folder in which built calendars are kept.
    """

    spec: CalendarSpec
    first: date
    after_close: timedelta
    kept_in: Path

    @property
    def calendar(self) -> SessionCalendar:
        """The exchange's calendar; read, or built, when it is needed first."""
        return load_calendar(self.spec, self.first, self.kept_in)

    @property
    def zone(self) -> str:
        return self.spec.time_zone

    @property
    def unit(self) -> Unit:
        return "day"

    @property
    def last(self) -> date | None:
        return self.calendar.sessions[-1]

    @property
    def without(self) -> str:
        """The reason to reject a row whose day is not a session."""
        return f"the day is no session of {self.spec.code}"

    def of(self, day: date) -> date | None:
        return day if self.calendar.is_session(day) else None

    def on_or_after(self, day: date) -> date | None:
        return self.calendar.session_on_or_after(day)

    def between(self, first: date, last: date) -> list[date]:
        return self.calendar.between(first, last)

    def over_at(self, partition: date) -> datetime:
        """When the session's regular segment is over, the closing auction included."""
        return self.calendar.hours(partition)[1] + self.after_close

    def day_at(self, moment: datetime) -> date:
        """The session under way, or else the date on the exchange's clock."""
        local = moment.astimezone(ZoneInfo(self.zone)).date()
        under_way = [day for day in self.between(local, local + _DAY) if self._lasts(day, moment, moment)]
        return under_way[-1] if under_way else local

    def around(self, day: date, start: datetime, end: datetime) -> list[date]:
        """The sessions that an object may hold bars of: the one of its name, or else those of its hours' dates, and
        those whose regular segment its hours overlap.
        """
        last = end - timedelta(microseconds=1)
        dates = [moment.astimezone(ZoneInfo(self.zone)).date() for moment in (start, last)]
        near = self.between(dates[0] - _DAY, dates[1] + _DAY)
        found = {each for each in near if self._lasts(each, start, last)}
        if self.of(day) is not None:
            return [day, *sorted(found - {day})]
        return sorted(found | set(self.between(*dates)))

    def _lasts(self, session: date, first: datetime, last: datetime) -> bool:
        """Whether the session's regular segment has any moment from `first` to `last`."""
        return self.calendar.hours(session)[0] <= last and first < self.over_at(session)

    def place(self, start_at: pl.Series, length: timedelta) -> pl.DataFrame:
        """The session of each bar: the one during which it starts, or else the first that opens before it ends, or else
        the one of its date on the exchange's clock. A bar of a whole day belongs to the session that closes in it, or
        else to the one during which it starts.

        Args:
            start_at: starts of bars (UTC, microseconds).
            length: of each bar.

        Returns: date (on the exchange's clock), day (the session, or else the date; NULL where there is no start),
            open_at, close_at and resumes_at (of the session; NULL without one).
        """
        import numpy as np
        import polars as pl

        frame = self.calendar.frame
        opens, closes = (frame[name].to_physical().to_numpy() for name in ("open_at", "close_at"))
        starts = start_at.to_physical().fill_null(0).to_numpy()
        ends, last = starts + _microseconds(length), len(opens) - 1
        dates = start_at.dt.convert_time_zone(self.zone).dt.date()
        begun = np.searchsorted(opens, starts, side="right") - 1
        is_during = (begun >= 0) & (starts < closes[begun] + _microseconds(self.after_close))
        if length < _DAY:
            next_one = np.minimum(begun + 1, last)
            opens_in_it = (opens[next_one] > starts) & (opens[next_one] < ends)
            index = np.where(is_during, begun, np.where(opens_in_it, next_one, -1))
            if (index < 0).any():
                index = np.where(index < 0, self._of_dates(dates), index)
        else:
            closing = np.minimum(np.searchsorted(closes, starts, side="right"), last)
            closes_in_it = (closes[closing] > starts) & (closes[closing] <= ends)
            index = np.where(closes_in_it, closing, np.where(is_during, begun, -1))
        found = frame.select("session", "open_at", "close_at", "resumes_at")[np.maximum(index, 0)]
        placed = pl.Series("placed", index >= 0) & start_at.is_not_null()
        return found.with_columns(dates.alias("date"), placed.alias("placed")).select(
            "date",
            pl.when("placed").then("session").otherwise("date").alias("day"),
            pl.when("placed").then("open_at"),
            pl.when("placed").then("close_at"),
            pl.when("placed").then("resumes_at"),
        )

    def _of_dates(self, dates: pl.Series) -> np.ndarray:
        """Each date's position among the sessions; -1 where it is none."""
        import numpy as np

        sessions = self.calendar.frame["session"].to_physical().to_numpy()
        days = dates.to_physical().fill_null(-(10**6)).to_numpy()
        found = np.minimum(np.searchsorted(sessions, days), len(sessions) - 1)
        return np.where(sessions[found] == days, found, -1)


def _microseconds(length: timedelta) -> int:
    return length // timedelta(microseconds=1)
