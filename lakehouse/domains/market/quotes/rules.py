"""Sliding windows over quotes, as DuckDB SQL: quotes -> panes -> windows.

A window of r minutes ends every period (10 s, at :05, :15, ...) and holds the quotes with
window_end - r <= event_time < window_end. Its quotes are not copied into each of the 6, 30 or 90 windows that they
are in: they are summed up once in panes, one period long, and windows are made of panes. Two ways lead from panes to
windows, and both give the same rows: `windows_at` looks at the panes of a few ends, as they come live, `windows_over`
slides over a long stretch.

A window is closed when the watermark, the latest event time less the allowed lateness, has reached its end; what comes
later makes a new revision of it. Both follow from the quotes and the moments at which the lake came to know them alone.

Belongs here: the rules. Functions take names of relations (or parenthesised queries) and return SQL text. Which quotes
are read and what is written is the pipeline's matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

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
# Sums of floating-point numbers depend on their order, and quotes don't come in the same order twice: prices are summed
# in units of 1e-12, exactly. As whole numbers they are rounded once, in the division: six quotes of 100.1 have the mean
# of five, and rank with them.
_UNITS = "(latest_price::DECIMAL(38, 12) * 1000000000000)::HUGEINT"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class WindowRule:
    """Which windows there are.

    Args:
        resolutions: lengths of the windows, whole multiples of the period.
        period: every so often a window ends.
        offset: of the ends from midnight UTC; below the period.
        lateness: how far the watermark stays behind the latest event time.
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
        """The first end after `moment`: that of the first window which a quote of that moment is in."""
        return self.last_end(moment) + self.period

    def ends_of(self, day: date) -> tuple[datetime, datetime]:
        """The first and the last end on a day (UTC)."""
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return midnight + self.offset, midnight + timedelta(days=1) + self.offset - self.period

    def closed_through(self, latest_event: datetime) -> datetime:
        """The last end of the windows that are closed once a quote of `latest_event` is known."""
        return self.last_end(latest_event - self.lateness)

    def pane_start(self, moment: str) -> str:
        """SQL for the start of the pane that a moment falls into; panes start where windows end."""
        return f"time_bucket({_interval(self.period)}, {moment}, {_moment(_EPOCH + self.offset)})"


def panes(quotes: str, rule: WindowRule) -> str:
    """(symbol, pane_start, quote_count, price_sum, min_price, max_price, first_price, first_at, last_price, last_at) of
    quotes (symbol, event_time, latest_price); start_at <= event_time < start_at + period; price_sum in units of 1e-12.

    Panes of the same symbol and start may be merged, or left beside each other: windows take both.
    """
    return f"""
        SELECT symbol, {rule.pane_start("event_time")} AS pane_start, count(*) AS quote_count,
            sum({_UNITS}) AS price_sum, min(latest_price) AS min_price, max(latest_price) AS max_price,
            arg_min(latest_price, event_time) AS first_price, min(event_time) AS first_at,
            arg_max(latest_price, event_time) AS last_price, max(event_time) AS last_at
        FROM {quotes} GROUP BY ALL
    """


def windows_at(panes: str, ends: str, rule: WindowRule) -> str:
    """The windows (WINDOW_COLUMNS) of all resolutions that end at one of `ends` (window_end), from panes as they are.

    Mean price is sum / count, gain 100 * (last - first) / first by event time, NULL where first is 0.
    """
    return " UNION ALL ".join(
        f"""
        SELECT {_minutes(resolution)}::BIGINT AS resolution_minutes, window_end, symbol,
            {_measures("sum(price_sum)", "sum(quote_count)", "arg_min(first_price, first_at)", "arg_max(last_price, last_at)", "min(min_price)", "max(max_price)")}
        FROM {ends} JOIN {panes} AS panes
        ON pane_start >= window_end - {_interval(resolution)} AND pane_start < window_end
        GROUP BY window_end, symbol
        """  # noqa: E501
        for resolution in rule.resolutions
    )


def windows_over(panes: str, first_end: datetime, last_end: datetime, rule: WindowRule) -> str:
    """The same windows for all ends from one to another, from merged panes (one a symbol and start).

    The panes of a symbol are laid out without gaps, so that a window is a number of rows that slides over them. Where
    no window reaches from one pane to the next, they are laid out apart: a quote of long ago costs as much as another.
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
    return f"""
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
    """


def closings(ends: str, quotes: str, last_end: datetime, rule: WindowRule, later: datetime | None) -> str:
    """(window_end, closed_at) of those of `ends` (window_end, none after `last_end`) that are closed: the moment at
    which the lake came to know the first quote that brought the watermark there.

    Args:
        quotes: (event_time, ingested_at), at least all from the first of the ends on.
        later: the earliest ingested_at of quotes that are not among `quotes` but after `last_end` plus the lateness.
    """
    reached = rule.pane_start(f"(event_time - {_interval(rule.lateness)})")
    beyond = f"UNION ALL SELECT 'infinity'::TIMESTAMPTZ, {_moment(later)}" if later else ""
    return f"""
        SELECT ends.window_end, reaching.closed_at
        FROM {ends} AS ends
        ASOF JOIN (
            SELECT reached, min(min(ingested_at)) OVER (ORDER BY reached DESC) AS closed_at
            FROM (SELECT {reached} AS reached, ingested_at FROM {quotes} {beyond}) GROUP BY reached
        ) AS reaching
        ON ends.window_end <= reaching.reached
    """


def revisions(quotes: str, closings: str, rule: WindowRule) -> str:
    """(resolution_minutes, window_end, symbol, late_arrivals): how often quotes came to a window after it had been
    closed; windows without any are left out.

    Args:
        quotes: (symbol, event_time, ingested_at).
        closings: as `closings` makes them.
    """
    # Ends close in their order, so that a quote which is not late for the first of its windows here is for none.
    first = f"greatest({rule.pane_start('event_time')} + {_interval(rule.period)}, min_end)"
    late = f"""
        SELECT symbol, event_time, ingested_at
        FROM (SELECT *, {first} AS window_end FROM {quotes}, (SELECT min(window_end) AS min_end FROM {closings}))
        JOIN {closings} USING (window_end)
        WHERE ingested_at > closed_at
    """
    return " UNION ALL ".join(
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


def closed_windows(
    quotes: str, watching: str, first_end: datetime, last_end: datetime, rule: WindowRule, later: datetime | None
) -> str:
    """The closed windows that end from `first_end` to `last_end`, whole: WINDOW_COLUMNS, day, revision, closed_at.

    Args:
        quotes: (symbol, event_time, latest_price, ingested_at), at least those of these windows.
        watching, later: what `closings` takes as `quotes` and `later`.
    """
    return f"""
        WITH merged AS MATERIALIZED ({panes(quotes, rule)}),
        filled AS MATERIALIZED ({windows_over("merged", first_end, last_end, rule)}),
        closed AS MATERIALIZED (
            {closings("(SELECT DISTINCT window_end FROM filled)", watching, last_end, rule, later)}
        ),
        late AS MATERIALIZED ({revisions(quotes, "closed", rule)})
        SELECT {", ".join(WINDOW_COLUMNS)}, window_end::DATE AS day,
            1 + coalesce(late_arrivals, 0) AS revision, closed_at
        FROM filled JOIN closed USING (window_end)
        LEFT JOIN late USING (resolution_minutes, window_end, symbol)
    """


def ranked_by_price(windows: str) -> str:
    """Windows with their `price_rank` among those of the same length and end: by mean price, the highest first; equal
    means share a rank, and the next one is skipped.
    """
    # The day follows from the end, but a filter on it reaches the files only if it is a key of the ranking.
    return f"""
        SELECT *, rank() OVER (PARTITION BY day, resolution_minutes, window_end ORDER BY mean_price DESC) AS price_rank
        FROM {windows}
    """


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
