"""Sessions of an exchange, from exchange_calendars, as plain frames.

A session is a trading day of a calendar; its date never comes from the UTC date of a timestamp. Building a
calendar imports pandas, which costs more than most runs' own work, so the built frame can be handed in (see
`lakehouse.domains.market.calendar_cache`, which keeps it on disk).

exchange_calendars lacks some sessions (Bombay's Saturdays and Muhurat evenings), so that days can be added and taken
out (`CalendarSpec`). Markets that trade around the clock (24/7, 24/5) have no opening of their own: there a session is
the venue's day.
"""

from __future__ import annotations

import bisect
import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from lakehouse.errors import LakehouseError, SourceError, in_one_line

if TYPE_CHECKING:
    import polars as pl

_COLUMNS = ("calendar", "session", "open_at", "close_at", "is_early_close", "resumes_at")
"""Of a calendar's frame. They are part of the digest, so that a frame kept by another release isn't read."""
_DAY = timedelta(days=1)
_NOON = time(12)


class NoSuchSession(LakehouseError):
    """A date is outside the calendar or is not one of its sessions."""


@dataclass(frozen=True)
class CalendarSpec:
    """Which sessions an exchange has.

    Args:
        code: of exchange_calendars, such as XETR.
        time_zone: the exchange's own.
        other_name: what the calendar is called where its sessions aren't those of the code.
        also: sessions that the calendar lacks, or has with other hours: day, and its opening and close on the
            exchange's clock (None: those of the session before).
        closed: days that are no sessions, though the calendar has them.
        day_starts: when a day of a market around the clock begins, on the exchange's clock (None: at midnight); from
            noon on, it is the evening before, as in foreign exchange at 17:00 in New York.
    """

    code: str
    time_zone: str
    other_name: str
    also: tuple[tuple[date, tuple[time, time] | None], ...] = ()
    closed: tuple[date, ...] = ()
    day_starts: time | None = None

    @property
    def digest(self) -> str:
        """Digest of everything that decides over the sessions."""
        said = (self.time_zone, sorted(map(str, self.also)), sorted(map(str, self.closed)), str(self.day_starts))
        return hashlib.sha256(repr((_COLUMNS, self.code, self.other_name, said)).encode()).hexdigest()[:8]


def build_sessions(spec: CalendarSpec, first: date) -> pl.DataFrame:
    """The sessions of a calendar from `first` on, as far ahead as exchange_calendars knows (about a year).

    Returns: calendar, session (date), open_at, close_at (UTC, microseconds), is_early_close, resumes_at (end of the
        lunch break, NULL without one); sorted by session.

    Raises:
        SourceError: the calendar doesn't reach back to `first`, ends before it, or has hours of its own beside
            `day_starts`.
    """
    import polars as pl

    own = found = _exchange_days(spec.code, first)
    if _is_around_the_clock(own):
        found = _venue_days(spec, own)
    elif spec.day_starts is not None:
        raise SourceError(
            f"day_starts is for calendars around the clock, such as 24/7 and 24/5; sessions of {spec.code} have hours "
            "of their own. Take it out of the defs.yaml"
        )
    if spec.closed or spec.also:
        kept = found.filter(~pl.col("session").is_in(list(spec.closed)))
        added = [_added(spec, kept, day, hours) for day, hours in spec.also if hours or not _has(kept, day)]
        frame = pl.DataFrame(added, schema=kept.schema, orient="row")
        found = pl.concat([kept.join(frame, on="session", how="anti"), frame]).sort("session")
        found = found.filter(pl.col("session") >= first)
    name = spec.code if found.equals(own) else spec.other_name
    return found.select(pl.lit(name).alias("calendar"), pl.all()).select(_COLUMNS)


def _has(sessions: pl.DataFrame, day: date) -> bool:
    return day in sessions["session"]


def _exchange_days(code: str, first: date) -> pl.DataFrame:
    import exchange_calendars
    import polars as pl

    try:
        made = exchange_calendars.get_calendar(code, start=first.isoformat())
    # Some calendars lack the holidays of early years, and say it by an error that isn't theirs.
    except (ValueError, NotImplementedError) as error:
        raise SourceError(
            f"the calendar {code} has no sessions from {first} on: {in_one_line(error).rstrip('. ')}. "
            "Correct `first_session` or `calendar` in the defs.yaml"
        ) from error
    # By columns: of ten thousand sessions, Python's own objects take twenty times as long.
    opened, closed, resumed = (
        pl.Series(moments.dt.tz_convert(None).to_numpy()).dt.cast_time_unit("us").dt.replace_time_zone("UTC")
        for moments in (made.opens, made.closes, made.break_ends)
    )
    return pl.DataFrame(
        {
            "session": pl.Series(made.sessions.to_numpy()).cast(pl.Date),
            "open_at": opened,
            "close_at": closed,
            "is_early_close": made.sessions.isin(made.early_closes),
            "resumes_at": resumed,
        }
    )


def _is_around_the_clock(sessions: pl.DataFrame) -> bool:
    """Whether every session is a whole day of UTC: there is no opening, only days."""
    import polars as pl

    midnight = pl.col("session").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    whole = (pl.col("open_at") == midnight) & (pl.col("close_at") - pl.col("open_at") == _DAY)
    return bool(sessions.select(whole.all()).item())


def _venue_days(spec: CalendarSpec, sessions: pl.DataFrame) -> pl.DataFrame:
    """The days of a market around the clock, each from its beginning at the venue to the next one's."""
    import polars as pl

    starts = spec.day_starts or time(0)

    def begin(day: pl.Expr) -> pl.Expr:
        local = day.cast(pl.Datetime("us")) + pl.duration(hours=starts.hour, minutes=starts.minute)
        local = local.dt.offset_by("-1d") if starts >= _NOON else local
        # Where clocks go forward at that time, the day begins an hour later.
        candidates = [
            each.dt.replace_time_zone(spec.time_zone, ambiguous="earliest", non_existent="null")
            for each in (local, local + pl.duration(hours=1))
        ]
        return pl.coalesce(candidates).dt.convert_time_zone("UTC")

    return sessions.with_columns(open_at=begin(pl.col("session")), close_at=begin(pl.col("session").dt.offset_by("1d")))


def _added(
    spec: CalendarSpec, sessions: pl.DataFrame, day: date, hours: tuple[time, time] | None
) -> tuple[date, datetime, datetime, bool, None]:
    """A session that is added to a calendar."""
    import polars as pl

    zone = ZoneInfo(spec.time_zone)
    if hours is not None:
        # What opens later than it closes opens on the evening before.
        opening_day = day if hours[0] < hours[1] else day - timedelta(days=1)
        opens, closes = datetime.combine(opening_day, hours[0], zone), datetime.combine(day, hours[1], zone)
        return day, opens.astimezone(UTC), closes.astimezone(UTC), False, None
    usual = sessions.filter(~pl.col("is_early_close"))
    before = usual.filter(pl.col("session") < day).tail(1)
    session, open_at, close_at, *_ = (before if before.height else usual.head(1)).row(0)
    opens, closes = (_at_the_same_clock(moment, session, day, zone) for moment in (open_at, close_at))
    return day, opens, closes, False, None


def _at_the_same_clock(moment: datetime, session: date, day: date, zone: ZoneInfo) -> datetime:
    local = moment.astimezone(zone).replace(tzinfo=None)
    return (local + (day - session)).replace(tzinfo=zone).astimezone(UTC)


@dataclass(frozen=True)
class SessionCalendar:
    """The sessions of one exchange. `frame` is what `build_sessions` returns; `time_zone` is the exchange's own."""

    time_zone: str
    frame: pl.DataFrame

    @property
    def name(self) -> str:
        """What the calendar is called: the code of exchange_calendars, where its sessions are these."""
        return str(self.frame["calendar"][0])

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
