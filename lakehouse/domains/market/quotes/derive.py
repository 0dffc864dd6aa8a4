"""Derives a feed's sliding windows from its stored quotes, for any time range. Writes only what differs.

`rules` defines which quote is in which window and when a window closes; `live` updates windows as quotes arrive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.incremental import DeriveResult, count, differing_parts
from lakehouse.domains.market.quotes import rules
from lakehouse.domains.market.quotes.feed import QUOTES, WINDOWS, Feed
from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import Relation, literal, relation_of, timestamp_literal
from lakehouse.lake.table import retry_when_stale
from lakehouse.progress import Progress

if TYPE_CHECKING:
    import duckdb

# About one gigabyte of panes and windows.
_QUOTES_AT_ONCE = 1_000_000


def derive_windows(
    lake: Lake,
    feed: Feed,
    first_end: datetime,
    last_end: datetime,
    *,
    symbols: Sequence[str] = (),
    checkpoints: Mapping[str, int] | None = None,
    verify: bool = False,
    progress: Progress = lambda *_: None,
) -> DeriveResult:
    """Brings the windows that end from `first_end` to `last_end` in line with the quotes.

    Args:
        symbols: only these symbols; all if empty.
        checkpoints: stored in the last commit (see `Snapshot.append`).
        verify: write nothing; the result counts what would be written.
    """
    result = DeriveResult()
    rule = feed.config.windows.rule
    total = max(0, (last_end - first_end) // rule.period + 1)
    done = 0
    for start, end in _stretches(lake, feed, first_end, last_end):
        mark = checkpoints if end == last_end else None
        result += retry_when_stale(partial(_derive, lake, feed, start, end, symbols, mark, verify))
        done += (end - start) // rule.period + 1
        progress("windows", done, total)
    return result


def _stretches(lake: Lake, feed: Feed, first_end: datetime, last_end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Splits the range into batches whose quotes fit in memory; stretches without quotes are free."""
    rule = feed.config.windows.rule
    quotes = lake.table(feed.table(QUOTES)).snapshot()
    for first, last in _whole_days(quotes, first_end, last_end, rule):
        inside = quotes.count_at_most(_between(first - rule.longest, last))
        ends = (last - first) // rule.period + 1
        at_once = min(ends, max(30, ends * _QUOTES_AT_ONCE // max(inside, 1)))
        start = first
        while start <= last:
            end = min(last, start + (at_once - 1) * rule.period)
            yield start, end
            start = end + rule.period


def _whole_days(
    quotes: Snapshot, first_end: datetime, last_end: datetime, rule: rules.WindowRule
) -> Iterator[tuple[datetime, datetime]]:
    """Splits the window ends at the days where the accumulated quotes exceed one batch."""
    start, together = first_end, 0
    if first_end.date() < last_end.date():
        for day, rows in quotes.rows_by("day").items():
            begin, end = rule.ends_of(date.fromisoformat(day))
            if end < first_end or begin > last_end:
                continue
            if together and together + rows > _QUOTES_AT_ONCE and start < begin:
                yield start, begin - rule.period
                start, together = begin, 0
            together += rows
    if start <= last_end:
        yield start, last_end


def _derive(
    lake: Lake,
    feed: Feed,
    first_end: datetime,
    last_end: datetime,
    symbols: Sequence[str],
    checkpoints: Mapping[str, int] | None,
    verify: bool,
) -> DeriveResult:
    target = lake.table(feed.table(WINDOWS)).snapshot()
    quotes = lake.table(feed.table(QUOTES)).snapshot()
    rule = feed.config.windows.rule
    wanted = f" AND symbol IN ({', '.join(map(literal, symbols))})" if symbols else ""
    where = f"window_end >= {timestamp_literal(first_end)} AND window_end <= {timestamp_literal(last_end)}{wanted}"
    where = f"{_days(first_end, last_end)} AND {where}"
    columns = ", ".join(target.table.contract.column_names)
    with lake.connect() as connection:
        inside = quotes.select_where(_between(first_end - rule.longest, last_end) + wanted)
        connection.execute(f"CREATE TEMP TABLE quotes AS {inside}")
        beyond = last_end + rule.lateness + rule.period
        watching = quotes.select_where(_between(first_end, beyond))
        later = _first_heard_from(connection, quotes, beyond)
        windows = rules.closed_windows(Relation("quotes"), relation_of(watching), first_end, last_end, rule, later)
        connection.execute(f"CREATE TEMP TABLE fresh AS SELECT {columns} FROM ({windows})")
        connection.execute(f"CREATE TEMP TABLE stored AS {target.select_where(where)}")
        changes = count(connection, "(FROM fresh EXCEPT ALL FROM stored)")
        gone = count(connection, "(FROM stored ANTI JOIN fresh USING (resolution_minutes, window_end, symbol))")
        made = count(connection, "fresh")
        if not changes and not gone:
            return DeriveResult(made)
        days = frozenset(differing_parts(connection, "day", "fresh", "stored"))
        result = DeriveResult(made, days, changes + gone, int(not verify))
        if verify:
            return result
        rows = connection.sql("FROM fresh ORDER BY window_end, resolution_minutes, symbol").to_arrow_table()
        if count(connection, "stored"):
            target.overwrite(rows, where, [target.table.name], checkpoints)
        else:
            target.append(rows, [target.table.name], checkpoints)
        return result


def _first_heard_from(connection: duckdb.DuckDBPyConnection, quotes: Snapshot, moment: datetime) -> datetime | None:
    """Returns the earliest `ingested_at` of the quotes with an event_time at or after `moment`."""
    whole, some = quotes.min_where("ingested_at", "event_time", moment)
    row = connection.execute(
        f"SELECT min(ingested_at) FROM ({some}) WHERE event_time >= {timestamp_literal(moment)}"
    ).fetchone()
    found = [whole] if whole else []
    if row and row[0]:
        found.append(row[0].astimezone(UTC))
    return min(found, default=None)


def _between(first: datetime, before: datetime) -> str:
    """A predicate for the quotes with `first` <= event_time < `before`."""
    since, end = timestamp_literal(first), timestamp_literal(before)
    return f"{_days(first, before)} AND event_time >= {since} AND event_time < {end}"


def _days(first: datetime, last: datetime) -> str:
    return f"day >= {literal(first.date())} AND day <= {literal(last.date())}"


def derive_days(
    lake: Lake,
    feed: Feed,
    partitions: Sequence[date],
    *,
    afresh: bool = False,
    verify: bool = False,
    progress: Progress = lambda *_: None,
) -> DeriveResult:
    """Brings the windows that end on the given days (UTC) in line with the quotes. They have no fingerprints, as they
    are mostly written while the quotes arrive: each of these days is derived.
    """
    result = DeriveResult()
    for day in partitions:
        result += derive_windows(lake, feed, *feed.config.windows.rule.ends_of(day), verify=verify, progress=progress)
    return result


def quote_windows(lake: Lake, connection: duckdb.DuckDBPyConnection, feed: Feed) -> str:
    """The query for `<feed>.quote_windows` as of `lake.as_of`."""
    rule = feed.config.windows.rule
    table = lake.table(feed.table(WINDOWS))
    quotes = relation_of(lake.select(feed.table(QUOTES), connection))
    found = connection.execute(f"SELECT min(event_time), max(event_time) FROM {quotes}").fetchone()
    if found is None or found[0] is None:
        return f"SELECT * FROM ({table.snapshot().select()}) WHERE false"
    first, last = (moment.astimezone(UTC) for moment in found)
    windows = rules.closed_windows(quotes, quotes, rule.next_end(first), rule.closed_through(last), rule, None)
    return f"SELECT {', '.join(table.contract.column_names)} FROM ({windows})"
