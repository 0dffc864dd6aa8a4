"""Updates a feed's windows as its quotes arrive, from panes kept in memory. The rows are the same as those that
`derive` makes.

Each commit of windows records its progress: `checkpoints` holds the time (in milliseconds since 1970) of the last
commit of quotes that the windows reflect. A new process continues from there.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

from lakehouse.derive.incremental import DeriveResult
from lakehouse.domains.market.quotes import rules
from lakehouse.domains.market.quotes.derive import derive_windows
from lakehouse.domains.market.quotes.feed import QUOTES, WINDOWS, Feed
from lakehouse.domains.market.quotes.store import Stored
from lakehouse.errors import StaleSnapshot
from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import Relation, literal, relation_of, timestamp_literal
from lakehouse.progress import Progress

if TYPE_CHECKING:
    import duckdb
    import polars as pl

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# Windows usually close one or two at a time. After a pause of the feed, derive them from the table instead.
_MOST_ENDS = 30
_MOST_SYMBOLS_NAMED = 100


class LiveWindows:
    """Updates windows as quotes are stored. Keeps the panes of the longest resolution in memory; quotes that are too
    late for them, or that follow a pause, are handled by deriving from the table.
    """

    def __init__(self, lake: Lake, feed: Feed) -> None:
        import duckdb

        self.lake, self.feed, self.rule = lake, feed, feed.config.windows.rule
        self.table = lake.table(feed.table(WINDOWS))
        self._mark = f"{feed.table(QUOTES)} until"
        self._connection = duckdb.connect()
        self._connection.execute("SET TimeZone = 'UTC'")
        # Commits of the windows table at our last write, and of the quotes table at our last read.
        self._commits = self._seen = -1
        self._latest: datetime | None = None
        """The latest event time; None before the first quote."""

    @property
    def closed_through(self) -> datetime | None:
        """The end of the last closed windows; None before the first quote."""
        return None if self._latest is None else self.rule.closed_through(self._latest)

    def catch_up(self, progress: Progress = lambda *_: None) -> DeriveResult:
        """Brings the windows up to date with the stored quotes, from the last checkpoint on, and loads the panes."""
        target = self.table.snapshot()
        quotes = self.lake.table(self.feed.table(QUOTES)).snapshot()
        done = target.checkpoint(self._mark)
        with self.lake.connect() as connection:
            known = f"ingested_at <= {timestamp_literal(_moment(done))}"
            before = _latest_event(connection, quotes, known) if done else None
            self._latest = _latest_event(connection, quotes, "true")
            unknown = quotes.select_where(f"NOT ({known})")
            news = connection.execute(f"SELECT min(event_time), max(ingested_at) FROM ({unknown})").fetchone()
            closed = self.rule.closed_through(before) if before else None
            before_closed = f"event_time < {timestamp_literal(closed)}" if closed else "false"
            late = connection.sql(f"SELECT symbol, event_time FROM ({unknown}) WHERE {before_closed}").pl()
        result = DeriveResult()
        if news and news[0] and self.closed_through:
            first = self.rule.next_end(news[0].astimezone(UTC))
            if closed is not None:
                # A quote may be years late: derive only the windows around it, not all since then.
                result += self._reopened(late, closed)
                first = closed + self.rule.period
            checkpoints = {self._mark: _milliseconds(news[1].astimezone(UTC))}
            result += derive_windows(
                self.lake, self.feed, first, self.closed_through, checkpoints=checkpoints, progress=progress
            )
        self._take_up(quotes)
        self._commits = target.commits(self.table.name) + result.commits
        self._seen = quotes.commits(quotes.table.name)
        return result

    def advance(self, stored: Stored) -> DeriveResult:
        """Writes the windows that the newly stored quotes close, and revises those for which they came too late."""
        if stored.quotes.is_empty():
            return DeriveResult()
        before = self.closed_through
        if before is None or self._latest is None or stored.commit != self._seen + 1:
            return self.catch_up()
        if self._others_went_on(self.table.snapshot(), 0):
            return self.catch_up()
        latest = max(self._latest, cast(datetime, stored.quotes["event_time"].max()))
        through = self.rule.closed_through(latest)
        if (through - before) // self.rule.period > _MOST_ENDS:
            return self.catch_up()
        self._latest, self._seen = latest, stored.commit
        self._connection.register("news", stored.quotes.to_arrow())
        self._connection.execute(f"INSERT INTO panes {rules.panes(Relation('news'), self.rule)}")
        self._connection.unregister("news")
        # Late quotes first: the checkpoint of the closed windows' commit covers all quotes.
        late = stored.quotes.filter(stored.quotes["event_time"] < before)
        result = self._reopened(late, before)
        if through > before:
            try:
                result += self._closed(before, through, stored.ingested_at, result.commits)
            except StaleSnapshot:
                return result + self.catch_up()
        self._commits += result.commits
        self._connection.execute(
            f"DELETE FROM panes WHERE pane_start < {timestamp_literal(through - self.rule.longest)}"
        )
        return result

    def _others_went_on(self, target: Snapshot, our_commits: int) -> bool:
        """Whether another process has written windows since our last write, up to `target`; ignores `our_commits`."""
        return target.commits(self.table.name) != self._commits + our_commits

    def _closed(self, before: datetime, through: datetime, ingested_at: datetime, our_commits: int) -> DeriveResult:
        """Commits the windows that end after `before` and up to `through`.

        Raises:
            StaleSnapshot: another process has written windows, possibly these.
        """
        target = self.table.snapshot()
        if self._others_went_on(target, our_commits):
            raise StaleSnapshot(f"another process has written to {self.table.name}")
        period = self.rule.period // timedelta(microseconds=1)
        first, last = (
            f"{timestamp_literal(before + self.rule.period)}::TIMESTAMPTZ",
            f"{timestamp_literal(through)}::TIMESTAMPTZ",
        )
        ends = relation_of(f"SELECT unnest(generate_series({first}, {last}, to_microseconds({period}))) AS window_end")
        columns = ", ".join(target.table.contract.column_names)
        made = f"""
            SELECT {", ".join(rules.WINDOW_COLUMNS)}, window_end::DATE AS day, 1 AS revision,
                {timestamp_literal(ingested_at)}::TIMESTAMPTZ AS closed_at
            FROM ({rules.windows_at(Relation("panes"), ends, self.rule)})
        """
        rows = self._connection.sql(
            f"SELECT {columns} FROM ({made}) ORDER BY window_end, resolution_minutes, symbol"
        ).to_arrow_table()
        if not rows.num_rows:
            return DeriveResult()
        target.append(rows, [target.table.name], {self._mark: _milliseconds(ingested_at)})
        return DeriveResult(rows.num_rows, frozenset({before.date(), through.date()}), rows.num_rows, 1)

    def _reopened(self, late: pl.DataFrame, through: datetime) -> DeriveResult:
        """Derives again the closed windows, up to `through`, that contain the late quotes (symbol, event_time)."""
        result = DeriveResult()
        if late.is_empty():
            return result
        for _, several in late.group_by(late["event_time"].dt.truncate("1h")):
            moments = several["event_time"]
            first, last = cast(datetime, moments.min()), cast(datetime, moments.max())
            symbols = several["symbol"].unique().to_list()
            result += derive_windows(
                self.lake,
                self.feed,
                self.rule.next_end(first),
                min(through, self.rule.last_end(last + self.rule.longest)),
                symbols=symbols if len(symbols) <= _MOST_SYMBOLS_NAMED else (),
            )
        return result

    def _take_up(self, quotes: Snapshot) -> None:
        """Loads the panes of the windows that are still open."""
        where = "false"
        if self.closed_through is not None:
            oldest = self.closed_through + self.rule.period - self.rule.longest
            where = f"day >= {literal(oldest.date())} AND event_time >= {timestamp_literal(oldest)}"
        with self.lake.connect() as connection:
            made = rules.panes(relation_of(quotes.select_where(where)), self.rule)
            found = connection.sql(made).to_arrow_table()
        self._connection.register("found", found)
        self._connection.execute("CREATE OR REPLACE TABLE panes AS FROM found")
        self._connection.unregister("found")


def _latest_event(connection: duckdb.DuckDBPyConnection, quotes: Snapshot, known: str) -> datetime | None:
    """The latest event time of the quotes for which `known` holds, from the last day that has any."""
    for day in reversed(quotes.partition_values("day")):
        row = connection.execute(
            f"SELECT max(event_time) FROM ({quotes.select({'day': [day]})}) WHERE {known}"
        ).fetchone()
        if row and row[0]:
            return row[0].astimezone(UTC)
    return None


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def _moment(milliseconds: int | None) -> datetime:
    return _EPOCH + (milliseconds or 0) * _MILLISECOND
