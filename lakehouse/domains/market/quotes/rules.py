"""Sliding windows over quotes, as DuckDB SQL: quotes -> panes -> windows.

A window of r minutes ends every period (10 s, at :05, :15, ...) and holds the quotes with
window_end - r <= event_time < window_end. Quotes are not copied into each of the 6, 30 or 90 windows that contain
them: they are aggregated once into panes, one period long, and windows combine panes. Two functions do that and return
the same rows: `windows_at` for a few ends, as they close live, and `windows_over` for a long range.

A window closes when the watermark (the latest event time minus the allowed lateness) reaches its end. Quotes that
arrive later create a new revision. Both depend only on the quotes and their `ingested_at`.

This module holds only the rules. Functions take names of relations (or parenthesised queries) and return SQL text.
`derive` and `live` decide which quotes to read and what to write.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from lakehouse.lake.sql import Query, Relation, relation_of

PANE_COLUMNS = (
    "symbol",
    "pane_start",
    "quote_count",
    "price_sum",
    "min_price",
    "max_price",
    "first_price",
    "first_at",
    "last_price",
    "last_at",
)
WINDOW_COLUMNS = (
    "resolution_minutes",
    "window_end",
    "symbol",
    "mean_price",
    "first_price",
    "last_price",
    "min_price",
    "max_price",
    "quote_count",
    "percentage_gain",
)
# Floating-point sums depend on the order of their terms, and quotes don't arrive in the same order twice. So prices are
# summed exactly, as integers in units of 1e-12, and rounded once, in the division: six quotes of 100.1 have the same
# mean, and so the same rank, as five.
_UNITS = "(latest_price::DECIMAL(38, 12) * 1000000000000)::HUGEINT"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class WindowRule:
    """Lengths and ends of the windows.

    Args:
        resolutions: lengths of the windows, whole multiples of the period.
        period: time between two window ends.
        offset: from midnight UTC to a window end; below the period.
        lateness: how far the watermark trails the latest event time.
    """

    resolutions: tuple[timedelta, ...]
    period: timedelta
    offset: timedelta
    lateness: timedelta

    @property
    def longest(self) -> timedelta:
        return max(self.resolutions)

    def last_end(self, moment: datetime) -> datetime:
        """The last end that is not after `moment`."""
        since = moment - _EPOCH - self.offset
        return _EPOCH + self.offset + (since // self.period) * self.period

    def next_end(self, moment: datetime) -> datetime:
        """The first end after `moment`, which is the end of the first window that contains a quote of that moment."""
        return self.last_end(moment) + self.period

    def ends_of(self, day: date) -> tuple[datetime, datetime]:
        """The first and the last end on a day (UTC)."""
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return midnight + self.offset, midnight + timedelta(days=1) + self.offset - self.period

    def closed_through(self, latest_event: datetime) -> datetime:
        """The last end of the windows that are closed once a quote of `latest_event` is known."""
        return self.last_end(latest_event - self.lateness)

    def pane_start(self, moment: str) -> str:
        """SQL for the start of the pane that contains a moment; panes start at window ends."""
        return f"time_bucket({_interval(self.period)}, {moment}, {_moment(_EPOCH + self.offset)})"


def panes(quotes: Relation, rule: WindowRule) -> Query:
    """(symbol, pane_start, quote_count, price_sum, min_price, max_price, first_price, first_at, last_price, last_at) of
    quotes (symbol, event_time, latest_price); start_at <= event_time < start_at + period; price_sum in units of 1e-12.

    Panes of the same symbol and start may be merged or not: windows accept both.
    """
    return Query(f"""
        SELECT symbol, {rule.pane_start("event_time")} AS pane_start, count(*) AS quote_count,
            sum({_UNITS}) AS price_sum, min(latest_price) AS min_price, max(latest_price) AS max_price,
            arg_min(latest_price, event_time) AS first_price, min(event_time) AS first_at,
            arg_max(latest_price, event_time) AS last_price, max(event_time) AS last_at
        FROM {quotes} GROUP BY ALL
    """)


def windows_at(panes: Relation, ends: Relation, rule: WindowRule) -> Query:
    """The windows (WINDOW_COLUMNS) of all resolutions that end at one of `ends` (window_end), from unmerged panes.

    Mean price is sum / count, gain 100 * (last - first) / first by event time, NULL where first is 0.
    """
    return Query(
        " UNION ALL ".join(
            f"""
        SELECT {_minutes(resolution)}::BIGINT AS resolution_minutes, window_end, symbol,
            {_measures("sum(price_sum)", "sum(quote_count)", "arg_min(first_price, first_at)", "arg_max(last_price, last_at)", "min(min_price)", "max(max_price)")}
        FROM {ends} JOIN {panes} AS panes
        ON pane_start >= window_end - {_interval(resolution)} AND pane_start < window_end
        GROUP BY window_end, symbol
        """  # noqa: E501
            for resolution in rule.resolutions
        )
    )


def windows_over(panes: Relation, first_end: datetime, last_end: datetime, rule: WindowRule) -> Query:
    """The same windows for all ends from `first_end` to `last_end`, from merged panes (one per symbol and start).

    Gaps between a symbol's panes are filled, so a window is a fixed number of rows. Gaps longer than the longest window
    are not filled but split the panes into islands, so an isolated old quote costs no more than any other.
    """
    period = _interval(rule.period)
    named = ", ".join(
        f"w{_minutes(resolution)} AS (PARTITION BY symbol, island ORDER BY pane_start "
        f"ROWS BETWEEN {resolution // rule.period - 1} PRECEDING AND CURRENT ROW)"
        for resolution in rule.resolutions
    )
    slid = " UNION ALL ".join(
        f"""
        SELECT {_minutes(resolution)}::BIGINT AS resolution_minutes, window_end, symbol,
            price_sum{_minutes(resolution)} AS price_sum, quote_count{_minutes(resolution)} AS quote_count,
            first_price{_minutes(resolution)} AS first_price, last_price{_minutes(resolution)} AS last_price,
            min_price{_minutes(resolution)} AS min_price, max_price{_minutes(resolution)} AS max_price
        FROM slid WHERE quote_count{_minutes(resolution)} > 0
        """
        for resolution in rule.resolutions
    )
    columns = ", ".join(_sliding(_minutes(resolution)) for resolution in rule.resolutions)
    return Query(f"""
        WITH wanted AS NOT MATERIALIZED (
            SELECT * FROM {panes}
            WHERE pane_start >= {_moment(first_end - rule.longest)} AND pane_start < {_moment(last_end)}
        ),
        parted AS (
            SELECT symbol, pane_start, count(*) FILTER (begins) OVER (PARTITION BY symbol ORDER BY pane_start) AS island
            FROM (
                SELECT symbol, pane_start, coalesce(pane_start - lag(pane_start) OVER (
                    PARTITION BY symbol ORDER BY pane_start
                ) > {_interval(rule.longest)}, true) AS begins
                FROM wanted
            )
        ),
        laid_out AS (
            SELECT symbol, island, unnest(generate_series(
                first_start, least(last_start + {_interval(rule.longest)}, {_moment(last_end - rule.period)}), {period}
            )) AS pane_start
            FROM (
                SELECT symbol, island, min(pane_start) AS first_start, max(pane_start) AS last_start
                FROM parted GROUP BY symbol, island
            )
        ),
        slid AS (
            SELECT symbol, pane_start + {period} AS window_end, {columns}
            FROM laid_out LEFT JOIN wanted USING (symbol, pane_start) WINDOW {named}
        )
        SELECT resolution_minutes, window_end, symbol,
            {_measures("price_sum", "quote_count", "first_price", "last_price", "min_price", "max_price")}
        FROM ({slid}) WHERE window_end >= {_moment(first_end)}
    """)


def closings(ends: Relation, quotes: Relation, last_end: datetime, rule: WindowRule, later: datetime | None) -> Query:
    """(window_end, closed_at) of the closed windows among `ends` (window_end, none after `last_end`). closed_at is the
    ingested_at of the first quote that moved the watermark to window_end.

    Args:
        quotes: (event_time, ingested_at), at least all from the first of the ends on.
        later: the earliest ingested_at of quotes after `last_end` plus the lateness that are not in `quotes`.
    """
    reached = rule.pane_start(f"(event_time - {_interval(rule.lateness)})")
    beyond = f"UNION ALL SELECT 'infinity'::TIMESTAMPTZ, {_moment(later)}" if later else ""
    return Query(f"""
        SELECT ends.window_end, reaching.closed_at
        FROM {ends} AS ends
        ASOF JOIN (
            SELECT reached, min(min(ingested_at)) OVER (ORDER BY reached DESC) AS closed_at
            FROM (SELECT {reached} AS reached, ingested_at FROM {quotes} {beyond}) GROUP BY reached
        ) AS reaching
        ON ends.window_end <= reaching.reached
    """)


def revisions(quotes: Relation, closings: Relation, rule: WindowRule) -> Query:
    """(resolution_minutes, window_end, symbol, late_arrivals): how often quotes arrived after their window had closed.
    Windows without late quotes are left out.

    Args:
        quotes: (symbol, event_time, ingested_at).
        closings: the result of `closings`.
    """
    # Windows close in order of their ends, so a quote that is on time for its first window is on time for all.
    first = f"greatest({rule.pane_start('event_time')} + {_interval(rule.period)}, min_end)"
    late = f"""
        SELECT symbol, event_time, ingested_at
        FROM (SELECT *, {first} AS window_end FROM {quotes}, (SELECT min(window_end) AS min_end FROM {closings}))
        JOIN {closings} USING (window_end)
        WHERE ingested_at > closed_at
    """
    return Query(
        " UNION ALL ".join(
            f"""
        SELECT {_minutes(resolution)}::BIGINT AS resolution_minutes, closed.window_end, symbol,
            count(DISTINCT ingested_at) AS late_arrivals
        FROM ({late}) AS late JOIN {closings} AS closed
        ON closed.window_end > event_time AND closed.window_end <= event_time + {_interval(resolution)}
        AND ingested_at > closed.closed_at
        GROUP BY closed.window_end, symbol
        """
            for resolution in rule.resolutions
        )
    )


def closed_windows(
    quotes: Relation,
    watching: Relation,
    first_end: datetime,
    last_end: datetime,
    rule: WindowRule,
    later: datetime | None,
) -> Query:
    """The closed windows that end from `first_end` to `last_end`: WINDOW_COLUMNS, day, revision, closed_at.

    Args:
        quotes: (symbol, event_time, latest_price, ingested_at), at least those of these windows.
        watching, later: passed to `closings` as `quotes` and `later`.
    """
    return Query(f"""
        WITH merged AS MATERIALIZED ({panes(quotes, rule)}),
        filled AS MATERIALIZED ({windows_over(Relation("merged"), first_end, last_end, rule)}),
        closed AS MATERIALIZED (
            {closings(relation_of("SELECT DISTINCT window_end FROM filled"), watching, last_end, rule, later)}
        ),
        late AS MATERIALIZED ({revisions(quotes, Relation("closed"), rule)})
        SELECT {", ".join(WINDOW_COLUMNS)}, window_end::DATE AS day,
            1 + coalesce(late_arrivals, 0) AS revision, closed_at
        FROM filled JOIN closed USING (window_end)
        LEFT JOIN late USING (resolution_minutes, window_end, symbol)
    """)


def ranked_by_price(windows: Relation) -> Query:
    """Adds `price_rank` to windows: the rank by mean price among windows of the same length and end, highest first.
    Equal means share a rank, and the next rank is skipped.
    """
    # window_end determines day, but DuckDB pushes a filter on day down to the files only if it is a partition key.
    return Query(f"""
        SELECT *, rank() OVER (PARTITION BY day, resolution_minutes, window_end ORDER BY mean_price DESC) AS price_rank
        FROM {windows}
    """)


def ranked_by_gain(windows: Relation) -> Query:
    """Adds `gain_rank` to windows: the rank by gain among windows of the same length and end, highest first; NULL
    without a gain. Equal gains share a rank, and the next rank is skipped.
    """
    among = "PARTITION BY day, resolution_minutes, window_end ORDER BY percentage_gain DESC NULLS LAST"
    return Query(f"""
        SELECT *, CASE WHEN percentage_gain IS NOT NULL THEN rank() OVER ({among}) END AS gain_rank FROM {windows}
    """)


def _measures(total: str, count: str, first: str, last: str, lowest: str, highest: str) -> str:
    return f"""
        {total}::DOUBLE / ({count} * 1e12) AS mean_price, {first} AS first_price, {last} AS last_price,
        {lowest} AS min_price, {highest} AS max_price, {count}::BIGINT AS quote_count,
        100 * ({last} - {first}) / nullif({first}, 0) AS percentage_gain
    """


def _sliding(minutes: int) -> str:
    over = f"OVER w{minutes}"
    return f"""
        sum(price_sum) {over} AS price_sum{minutes}, sum(quote_count) {over} AS quote_count{minutes},
        first_value(first_price IGNORE NULLS) {over} AS first_price{minutes},
        last_value(last_price IGNORE NULLS) {over} AS last_price{minutes},
        min(min_price) {over} AS min_price{minutes}, max(max_price) {over} AS max_price{minutes}
    """


def _minutes(resolution: timedelta) -> int:
    return resolution // timedelta(minutes=1)


def _interval(length: timedelta) -> str:
    return f"to_microseconds({length // timedelta(microseconds=1)})"


def _moment(moment: datetime) -> str:
    return f"'{moment.astimezone(UTC).isoformat()}'::TIMESTAMPTZ"
