"""Checks of a feed's stored tables, in the manner of `checks`."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from lakehouse.lake.lake import Lake
from lakehouse.lake.table import literal
from lakehouse.pipeline.checks import Check, Finding, Sessions, of_every_table
from lakehouse.pipeline.windows import derive_windows
from lakehouse.sources.feed import ERRORS, QUOTES, WINDOWS, FeedConfig

_RECENT = timedelta(hours=1)
_MOST_UNANSWERED = 0.05
_ABOUT_TO_BE_WRITTEN = timedelta(minutes=2)


def _windows_follow(lake: Lake, feed: FeedConfig, days: Sessions) -> Finding:
    """While a feed goes on its newest windows may be about to be written: they are left out."""
    rule = feed.windows.rule
    newest = rule.last_end(datetime.now(UTC) - _ABOUT_TO_BE_WRITTEN)
    changed, rows = 0, 0
    for day in days if days is not None else _days(lake, feed):
        first, last = rule.ends_of(day)
        found = derive_windows(lake, feed, first, min(last, newest), verify=True)
        changed, rows = changed + found.rows_changed, rows + found.rows
    said = f"{changed:,} of {rows:,} windows differ from what the quotes give" if changed else "nothing found"
    return Finding(changed == 0, said, facts={"windows": rows})


def _polls_answered(lake: Lake, feed: FeedConfig, days: Sessions) -> Finding:
    """The last hour's: what was mended long ago is in the table, but no news."""
    since = datetime.now(UTC) - _RECENT
    day = f"day >= {literal(since.date())}"
    errors = (
        lake.table(feed.table(ERRORS)).snapshot().select_where(f"{day} AND slot_at >= {literal(since.isoformat())}")
    )
    quotes = lake.table(feed.table(QUOTES)).snapshot().select_where(
        f"{day} AND ingested_at >= {literal(since.isoformat())}"
    )  # fmt: skip
    with lake.connect() as connection:
        rows = (
            connection.execute(
                f"""
            SELECT symbol, count(DISTINCT slot_at) AS slots, arg_max(error, occurred_at) AS last_error
            FROM ({errors}) GROUP BY symbol ORDER BY slots DESC, symbol
            """
            )
            .to_arrow_table()
            .to_pylist()
        )
        told = connection.execute(f"SELECT count(*) FROM ({quotes})").fetchone()
    failed, stored = sum(row["slots"] for row in rows), told[0] if told else 0
    share = failed / max(failed + stored, 1)
    said = f"{failed:,} polls of {len(rows):,} symbols brought nothing in the last hour" if rows else "nothing found"
    return Finding(share <= _MOST_UNANSWERED, said, rows[:20], {"polls_failed": failed, "quotes_stored": stored})


def _days(lake: Lake, feed: FeedConfig) -> list[date]:
    known = lake.table(feed.table(WINDOWS)).snapshot().partition_values("day")
    return [date.fromisoformat(day) for day in known]


FEED_CHECKS: tuple[Check, ...] = (
    *of_every_table(QUOTES),
    Check(
        QUOTES,
        "polls_answered",
        "Of the last hour's polls, at least 95% brought a quote at last.",
        _polls_answered,
        severity="warn",
    ),
    *of_every_table(WINDOWS),
    Check(
        WINDOWS, "consistent_with_quotes", "Each window is what the stored quotes give.", _windows_follow, blocking=True
    ),
)
