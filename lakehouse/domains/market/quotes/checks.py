"""The checks of a feed's tables, in addition to those that every source has."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from lakehouse.derive.checks import of_every_table, refusal_finding, unremembered
from lakehouse.derive.source import Check, Finding, Partitions
from lakehouse.domains.market.contracts import contracts
from lakehouse.domains.market.quotes.derive import derive_windows
from lakehouse.domains.market.quotes.feed import ERRORS, QUOTES, WINDOWS, Feed
from lakehouse.domains.market.quotes.store import last_of_its_slot, object_of
from lakehouse.ingest.entered import QUARANTINE
from lakehouse.ingest.refused import Refusal
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import literal, timestamp_literal

_RECENT = timedelta(hours=1)
_MOST_UNANSWERED = 0.05
_FEW = 2
_ABOUT_TO_BE_WRITTEN = timedelta(minutes=2)


def _windows_follow(lake: Lake, feed: Feed, days: Partitions) -> Finding:
    """Leaves out the newest windows: while the feed runs, they may be about to be written."""
    rule = feed.config.windows.rule
    newest = rule.last_end(datetime.now(UTC) - _ABOUT_TO_BE_WRITTEN)
    changed, rows = 0, 0
    for day in days if days is not None else _days(lake, feed):
        first, last = rule.ends_of(day)
        found = derive_windows(lake, feed, first, min(last, newest), verify=True)
        changed, rows = changed + found.rows_changed, rows + found.rows
    said = f"{changed:,} of {rows:,} windows differ from what the quotes give" if changed else "nothing found"
    return Finding(changed == 0, said, facts={"windows": rows})


def _polls_answered(lake: Lake, feed: Feed, days: Partitions) -> Finding:
    """Looks at the last hour only, whatever the run's days: older failures stay in the table."""
    since = datetime.now(UTC) - _RECENT
    recent = f"day >= {literal(since.date())} AND slot_at >= {timestamp_literal(since)}"
    most = _MOST_UNANSWERED * _RECENT.total_seconds() / feed.config.poll_interval_s
    with lake.connect() as connection:
        rows = (
            connection.sql(
                f"""
                SELECT symbol, count(DISTINCT slot_at) AS rounds, arg_max(error, occurred_at) AS last_error
                FROM ({lake.table(feed.table(ERRORS)).snapshot().select_where(recent)})
                WHERE {last_of_its_slot(feed)}
                GROUP BY symbol ORDER BY rounds DESC, symbol
                """
            )
            .to_arrow_table()
            .to_pylist()
        )
        quotes = lake.table(feed.table(QUOTES)).snapshot().select_where(
            f"day >= {literal(since.date())} AND ingested_at >= {timestamp_literal(since)}"
        )  # fmt: skip
        told = {symbol for (symbol,) in connection.execute(f"SELECT DISTINCT symbol FROM ({quotes})").fetchall()}
    # For a symbol without any answer, a few rounds are enough evidence.
    silent = [row for row in rows if row["rounds"] > (most if row["symbol"] in told else min(most, _FEW))]
    said = f"{len(silent):,} symbols had no answer in too many of the last hour's rounds"
    facts = {"rounds_without_an_answer": sum(row["rounds"] for row in rows)}
    return Finding(not silent, said if silent else "nothing found", silent[:20], facts)


def _few_refused(lake: Lake, feed: Feed, days: Partitions) -> Finding:
    found = feed_refusal(lake, feed, days)
    return refusal_finding(found, not found.kept_none and found.pct < feed.config.refusals.warn_pct)


def feed_refusal(lake: Lake, feed: Feed, days: Partitions) -> Refusal:
    """Counts the rejected answers and messages of `days` (None: all days); one that the vendor repeats counts once.
    Objects of which nothing was kept are symbols without a stored quote on these days.
    """
    within = f"source = {literal(feed.name)}"
    if days is not None:
        within += f" AND session IN ({', '.join(map(literal, days))})"
    with lake.connect() as connection:
        connection.execute(
            f"""
            CREATE TEMP TABLE told AS SELECT symbol, count(*) AS quotes
            FROM ({lake.table(feed.table(QUOTES)).snapshot().select_dates(days)}) GROUP BY symbol;
            CREATE TEMP TABLE refused AS SELECT object, reasons
            FROM ({lake.table(QUARANTINE).snapshot().select_where(within)})
            """
        )
        kept, refused = connection.execute(
            "SELECT (SELECT coalesce(sum(quotes), 0)::BIGINT FROM told), (SELECT count(*) FROM refused)"
        ).fetchall()[0]
        reasons = connection.execute(
            "SELECT reason, count(*) FROM (SELECT unnest(reasons) AS reason FROM refused) "
            "GROUP BY reason ORDER BY count(*) DESC, reason"
        ).fetchall()
        kept_none = connection.execute(
            f"""
            SELECT DISTINCT object FROM refused ANTI JOIN told ON object = {literal(f"{QUOTES}/")} || symbol
            WHERE object <> {literal(object_of(None))} ORDER BY object
            """
        ).fetchall()
    return Refusal(kept + refused, refused, dict(reasons), [name for (name,) in kept_none])


def _days(lake: Lake, feed: Feed) -> list[date]:
    known = lake.table(feed.table(WINDOWS)).snapshot().partition_values("day")
    return [date.fromisoformat(day) for day in known]


def feed_checks() -> tuple[Check, ...]:
    """The checks of a feed's quotes and windows. A day changes every few seconds, so that none of their results could
    be used again.
    """
    known = contracts()
    return (
        *map(unremembered, of_every_table(known[QUOTES])),
        Check(
            QUOTES,
            "polls_answered",
            "No symbol went without an answer in more than 5% of the last hour's rounds, or in all of them.",
            _polls_answered,
            severity="warn",
        ),
        Check(
            QUOTES,
            "few_rows_refused",
            "Few of the answers were rejected, and no symbol had all of its answers rejected. Repeats count once.",
            _few_refused,
            severity="warn",
        ),
        *map(unremembered, of_every_table(known[WINDOWS])),
        Check(
            WINDOWS,
            "consistent_with_quotes",
            "Each window equals what the stored quotes give.",
            _windows_follow,
            blocking=True,
        ),
    )
