"""Customers as of a day, for models: features of what was before it, labels of what came after it.

`customer_features(as_of)` uses lines of days before `as_of` alone, and `customer_labels(as_of, horizon)` those of the
`horizon` days from `as_of` on, so that no feature knows what a label asks for. Both are about the customers who had
bought something by then. The mart `customer_value` has the same scores and segments on the last day of the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lakehouse.lake.sql import Query, Relation, relation_of

if TYPE_CHECKING:
    import duckdb

    from lakehouse.derive.source import Source
    from lakehouse.lake.lake import Lake

RECENT_DAYS = (30, 90)
"""Lengths of the stretches just before the day."""
SEGMENT = """
    CASE
        WHEN recency >= 4 AND frequency >= 4 THEN 'champion'
        WHEN frequency >= 4 THEN 'loyal, at risk'
        WHEN recency >= 4 AND invoice_count = 1 THEN 'new'
        WHEN recency >= 3 THEN 'occasional'
        ELSE 'lapsed'
    END
"""


def features(lines: Relation, day: str) -> Query:
    """What is known of each customer who bought something before a day (SQL text).

    The scores are fifths of these customers, 5 is best; equal values have equal scores.
    """
    recent = ", ".join(
        f"""
        count(DISTINCT invoice_no) FILTER (kind = 'sale' AND day >= until - {days}) AS invoice_count_{days}d,
        coalesce(sum(amount) FILTER (day >= until - {days}), 0)::DECIMAL(38, 4) AS total_{days}d
        """
        for days in RECENT_DAYS
    )
    return Query(f"""
        WITH known AS (
            SELECT * FROM (SELECT *, {_day(lines, day)} AS until FROM {lines})
            WHERE customer_id IS NOT NULL AND day < until
        ),
        countries AS (
            SELECT customer_id, country FROM known GROUP BY customer_id, day, country
            QUALIFY row_number() OVER (PARTITION BY customer_id ORDER BY day DESC, count(*) DESC, country) = 1
        ),
        counted AS (
            SELECT customer_id, any_value(until) AS until,
                min(day) FILTER (kind = 'sale') AS first_day, max(day) FILTER (kind = 'sale') AS last_day,
                count(DISTINCT day) FILTER (kind = 'sale') AS day_count,
                count(DISTINCT invoice_no) FILTER (kind = 'sale') AS invoice_count,
                count(DISTINCT invoice_no) FILTER (kind = 'cancellation') AS cancellation_count,
                count(*) FILTER (kind = 'sale') AS line_count,
                count(DISTINCT stock_code) FILTER (kind = 'sale') AS item_count,
                sum(quantity)::BIGINT AS quantity, sum(amount)::DECIMAL(38, 4) AS total,
                coalesce(sum(amount) FILTER (kind = 'sale'), 0)::DECIMAL(38, 4) AS sales,
                coalesce(sum(amount) FILTER (kind = 'cancellation'), 0)::DECIMAL(38, 4) AS cancelled, {recent}
            FROM known GROUP BY customer_id HAVING count(*) FILTER (kind = 'sale') > 0
        ),
        scored AS (
            SELECT *, until - last_day AS recency_days, until - first_day AS tenure_days,
                {_fifth("last_day")} AS recency, {_fifth("invoice_count")} AS frequency, {_fifth("total")} AS monetary
            FROM counted
        )
        SELECT customer_id, until AS known_until, country, * EXCLUDE (customer_id, until), {SEGMENT} AS segment
        FROM scored JOIN countries USING (customer_id) ORDER BY customer_id
    """)


def labels(lines: Relation, day: str, horizon: str) -> Query:
    """What the customers who bought something before a day did in the `horizon` days from it on (both SQL text). NULL
    while the data don't reach the end of these days, since who hasn't bought yet may still do so.
    """
    return Query(f"""
        WITH dated AS (
            SELECT *, {day}::DATE AS begins, {day}::DATE + {horizon}::INTEGER AS ends FROM {lines}
        ),
        reached AS (SELECT bool_or(day >= ends - 1) AS is_over FROM dated),
        known AS (SELECT DISTINCT customer_id FROM dated WHERE day < begins AND kind = 'sale'),
        later AS (
            SELECT customer_id, count(DISTINCT invoice_no) FILTER (kind = 'sale') AS invoice_count,
                coalesce(sum(amount) FILTER (kind = 'sale'), 0)::DECIMAL(38, 4) AS sales,
                sum(amount)::DECIMAL(38, 4) AS total
            FROM dated WHERE day >= begins AND day < ends GROUP BY customer_id
        )
        SELECT customer_id, is_over,
            CASE WHEN is_over THEN coalesce(invoice_count, 0) > 0 END AS has_bought,
            CASE WHEN is_over THEN coalesce(invoice_count, 0) END AS invoice_count,
            CASE WHEN is_over THEN coalesce(sales, 0)::DECIMAL(38, 4) END AS sales,
            CASE WHEN is_over THEN coalesce(total, 0)::DECIMAL(38, 4) END AS total
        FROM known LEFT JOIN later USING (customer_id), reached
        WHERE customer_id IS NOT NULL ORDER BY customer_id
    """)


def features_macro(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> None:
    """Makes `<source>.customer_features(as_of := NULL)` in `connection`; by default, as of the day after the last
    line.
    """
    _make(lake, connection, source, "customer_features(as_of := NULL)", features, "as_of")


def labels_macro(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> None:
    """Makes `<source>.customer_labels(as_of, horizon := 90)` in `connection`."""
    _make(lake, connection, source, "customer_labels(as_of, horizon := 90)", labels, "as_of", "horizon")


def _make(
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    head: str,
    rule: Callable[..., Query],
    *arguments: str,
) -> None:
    lines = relation_of(lake.select(source.table("sale_lines"), connection))
    connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{source.name}"')
    connection.execute(f'CREATE OR REPLACE MACRO "{source.name}".{head} AS TABLE {rule(lines, *arguments)}')


def _day(lines: Relation, day: str) -> str:
    return f"coalesce({day}::DATE, (SELECT max(day) + 1 FROM {lines}))"


def _fifth(column: str) -> str:
    """The fifth of the customers in which a value is, 1 to 5: by those who have it or less."""
    upto = f"count(*) OVER (ORDER BY {column} RANGE UNBOUNDED PRECEDING)"
    return f"((5 * {upto} + count(*) OVER () - 1) // count(*) OVER ())"
