"""Reads the live state of a feed for `lakehouse watch`: each symbol's newest quote, the latest closed windows, the
arrival rate and recent errors. It reads only the lake's tables, so any process may write them.

A `FeedView` is incremental: it keeps what it has read and opens only new files. SQL views belong in `views`, the
terminal layout in `lakehouse.cli.watch`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from lakehouse.domains.market.quotes.feed import ERRORS, QUOTES, WINDOWS, Feed
from lakehouse.domains.market.quotes.rules import ranked_by_gain, ranked_by_price
from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import literal, predicate, relation_of, timestamp_literal
from lakehouse.lake.table import LakeTable

if TYPE_CHECKING:
    import polars as pl

ERRORS_OF = timedelta(minutes=5)
"""Errors are reported for this long."""
HISTORY_ENDS = 30
"""Number of closed windows in a symbol's history."""
_RATE_OF = timedelta(minutes=1)
# The first look searches the newest days that hold at most this many quotes together, or only the newest hour if one
# day alone holds more. That finds symbols which have not traded for days without reading gigabytes. Once found, a
# symbol stays until the view is closed.
_QUOTES_SEARCHED = 1_000_000
_QUOTES_OF = timedelta(hours=1)
_ERRORS_NAMED = 3
_DAY = timedelta(days=1)
_TICK = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Failure:
    """An attempt to poll a symbol that returned no quote."""

    symbol: str
    occurred_at: datetime
    error: str


@dataclass(frozen=True)
class View:
    """The state of a feed at one moment.

    Args:
        symbols: symbol, last_price, event_time (of the newest quote); for each length of r minutes gain_r
            (percent), price_rank_r (by mean price, 1 the highest) and gain_rank_r of the window that ends at
            `closed_through`; history: the last prices of the shortest windows up to there, the oldest first. The
            highest gain in the shortest window comes first, symbols without one last.
        quotes_per_minute: quotes stored in the last minute.
        stored_today: quotes of the current day (UTC).
        newest_commit: time of the last commit of quotes; None before the first.
        lag: from the newest event time in that commit to the commit.
        closed_through: end of the latest closed windows; None if the feed's last minutes have none.
        errors: attempts within `ERRORS_OF` that returned no quote.
        latest_errors: the latest of them, newest first.
        refused_today: answers quarantined since midnight (UTC).
    """

    feed: Feed
    at: datetime
    symbols: pl.DataFrame
    quotes_per_minute: int
    stored_today: int
    newest_commit: datetime | None
    lag: timedelta | None
    closed_through: datetime | None
    errors: int
    latest_errors: tuple[Failure, ...]
    refused_today: int


class FeedView:
    """A feed that is polled for its state. Not thread-safe."""

    def __init__(self, lake: Lake, feed: Feed) -> None:
        import polars as pl

        self._lake, self._feed = lake, feed
        self._quotes = _Followed(lake.table(feed.table(QUOTES)))
        self._windows = _Followed(lake.table(feed.table(WINDOWS)))
        self._errors = _Followed(lake.table(feed.table(ERRORS)))
        self._quarantine = _Followed(lake.table("quarantine"))
        moment = pl.Datetime("us", "UTC")
        self._newest = pl.DataFrame(schema={"symbol": pl.String, "last_price": pl.Float64, "event_time": moment})
        self._measures = self._newest.select("symbol")
        self._symbols = self._newest
        self._commits: dict[datetime, int] = {}
        self._lag: timedelta | None = None
        self._closed_through: datetime | None = None
        self._failures: tuple[int, tuple[Failure, ...]] = (0, ())
        self._day, self._stored, self._refused = date.min, 0, 0

    def look(self, at: datetime) -> View:
        """Reads the feed's state at `at` (UTC), which must not be before the last call's.

        Raises:
            LakeUnavailable: the storage can't be read.
            TableOutdated: an older version of this project wrote the tables.
        """
        # Windows are stored after their quotes: in this order we never see a window without its quotes.
        windows_moved, quotes_moved, refused_moved = (
            table.moved() for table in (self._windows, self._quotes, self._quarantine)
        )
        if quotes_moved:
            self._read_quotes(at)
        if windows_moved:
            self._read_windows()
        if quotes_moved or windows_moved:
            self._join()
        if self._errors.moved() or self._failures[0]:
            self._read_failures(at)
        day = at.date()
        if quotes_moved or refused_moved or day != self._day:
            # Delta's own row counts are exact for whole partitions.
            refused = f"source = {literal(self._feed.name)} AND load_date = {literal(day)}"
            self._stored = self._quotes.snapshot.count_at_most(f"day = {literal(day)}")
            self._refused = self._quarantine.snapshot.count_at_most(refused)
            self._day = day
        # Only after every read succeeded, so that the next look repeats a failed one.
        for table in (self._windows, self._quotes, self._errors, self._quarantine):
            table.taken_up()
        return View(
            self._feed,
            at,
            self._symbols,
            sum(count for moment, count in self._commits.items() if moment > at - _RATE_OF),
            self._stored,
            max(self._commits, default=None),
            self._lag,
            self._closed_through,
            *self._failures,
            self._refused,
        )

    def _read_quotes(self, at: datetime) -> None:
        """Reads the quotes stored since the last look."""
        import polars as pl

        snapshot = self._quotes.snapshot
        since = max(self._commits, default=None)
        # Commit times are whole milliseconds, like Delta's file statistics, so this never reopens the last file read.
        where = f"ingested_at >= {timestamp_literal(since + _TICK)}" if since else _first_read(snapshot)
        with self._lake.connect() as connection:
            connection.execute(
                "CREATE TEMP TABLE news AS SELECT symbol, latest_price, event_time, ingested_at "
                f"FROM ({snapshot.select_where(where)})"
            )
            commits = connection.execute(
                "SELECT ingested_at, count(*), max(event_time) FROM news GROUP BY ingested_at ORDER BY ingested_at"
            ).fetchall()
            found = connection.sql(
                "SELECT symbol, arg_max(latest_price, event_time) AS last_price, max(event_time) AS event_time "
                "FROM news GROUP BY symbol"
            ).pl()
        if not commits:
            return
        # A late quote never replaces a newer one.
        known = pl.concat([self._newest, found.cast(self._newest.schema)])
        self._newest = known.sort("event_time").unique("symbol", keep="last")
        last, _, latest = commits[-1]
        self._lag = last - latest
        counted = [*self._commits.items(), *((moment.astimezone(UTC), count) for moment, count, _ in commits)]
        self._commits = dict([*(entry for entry in counted[:-1] if entry[0] > at - _RATE_OF), counted[-1]])

    def _read_windows(self) -> None:
        """Reads the latest closed windows and the history before them."""
        rule, lengths = self._feed.config.windows.rule, self._feed.config.windows.resolutions_minutes
        windows, latest = self._windows.snapshot, self._newest["event_time"].max()
        recent, last = windows.select({"day": []}), None
        if isinstance(latest, datetime):
            first = rule.closed_through(latest) - (HISTORY_ENDS - 1) * rule.period
            recent = windows.select_where(
                f"day >= {literal(first.date())} AND window_end >= {timestamp_literal(first)}"
            )
        measures = ", ".join(
            f"max(percentage_gain) FILTER (resolution_minutes = {minutes}) AS gain_{minutes}, "
            f"max(price_rank) FILTER (resolution_minutes = {minutes}) AS price_rank_{minutes}, "
            f"max(gain_rank) FILTER (resolution_minutes = {minutes}) AS gain_rank_{minutes}"
            for minutes in lengths
        )
        with self._lake.connect() as connection:
            found = connection.execute(f"SELECT max(window_end) FROM ({recent})").fetchone()
            if found and found[0]:
                last = found[0].astimezone(UTC)
            closed = f"day = {literal(last.date())} AND window_end = {timestamp_literal(last)}" if last else "false"
            ranked = ranked_by_gain(relation_of(ranked_by_price(relation_of(windows.select_where(closed)))))
            gains = connection.sql(f"SELECT symbol, {measures} FROM ({ranked}) GROUP BY symbol").pl()
            prices = connection.sql(
                f"SELECT symbol, window_end, last_price FROM ({recent}) WHERE resolution_minutes = {min(lengths)}"
            ).pl()
        self._closed_through = last
        history = prices.sort("window_end").group_by("symbol", maintain_order=True).agg(history="last_price")
        self._measures = gains.join(history, on="symbol", how="full", coalesce=True)

    def _join(self) -> None:
        symbols = self._newest.join(self._measures, on="symbol", how="left")
        gain = f"gain_{min(self._feed.config.windows.resolutions_minutes)}"
        self._symbols = symbols.sort(gain, "symbol", descending=[True, False], nulls_last=True)

    def _read_failures(self, at: datetime) -> None:
        # Whole seconds: Delta's file statistics are less precise than a timestamp.
        since = (at - ERRORS_OF).replace(microsecond=0)
        where = f"day >= {literal((since - _DAY).date())} AND occurred_at >= {timestamp_literal(since)}"
        with self._lake.connect() as connection:
            rows = connection.execute(
                "SELECT symbol, occurred_at, error, count(*) OVER () "
                f"FROM ({self._errors.snapshot.select_where(where)}) ORDER BY occurred_at DESC, symbol "
                f"LIMIT {_ERRORS_NAMED}"
            ).fetchall()
        latest = tuple(Failure(symbol, moment.astimezone(UTC), error) for symbol, moment, error, _ in rows)
        self._failures = (rows[0][-1] if rows else 0, latest)


def _first_read(quotes: Snapshot) -> str:
    """A predicate that selects the quotes of the first look."""
    days, searched = list[str](), 0
    for day, rows in reversed(quotes.rows_by("day").items()):
        searched += rows
        if searched > _QUOTES_SEARCHED:
            break
        days.append(day)
    newest = quotes.max_value("ingested_at")
    if days or newest is None:
        return predicate({"day": days})
    return f"ingested_at >= {timestamp_literal(newest - _QUOTES_OF)}"


class _Followed:
    """A table opened once; later refreshes read only the new entries of its log."""

    def __init__(self, table: LakeTable) -> None:
        self._table = table
        self.snapshot = Snapshot(table, None)
        self._taken_up: int | None = -1

    def moved(self) -> bool:
        """Refreshes to the newest version and returns whether it differs from the one taken up."""
        from deltalake.exceptions import DeltaError

        try:
            if self.snapshot.delta is None:
                self.snapshot = self._table.snapshot()
            else:
                self.snapshot = self.snapshot.refreshed()
        except (DeltaError, OSError):
            # The table was recreated, or its storage is gone; in that case opening it raises the right error.
            self.snapshot = self._table.snapshot()
        return self.snapshot.version != self._taken_up

    def taken_up(self) -> None:
        """Marks the current version as read."""
        self._taken_up = self.snapshot.version
