"""What the checks of retail look for: DuckDB queries for the offending rows, over relations of the stored tables."""

from __future__ import annotations

from lakehouse.derive.revisions import losers
from lakehouse.domains.retail.rules import KIND, LINES
from lakehouse.ingest.versions import references
from lakehouse.lake.sql import Query, Relation

_RARE, _COMMON = 0.002, 0.02
"""A weekday is unusual in a month if it has more than the second share of the lines there, and less than the first one
in all other months.
"""


def money_that_differs(raw: Relation, ledger: Relation, lines: Relation) -> Query:
    """The months and kinds whose number of lines or money is not that of the received lines without the losing ones."""
    counted = f"month, {KIND} AS kind, quantity * unit_price::DECIMAL(28, 4) AS amount"
    return Query(f"""
        WITH received AS (
            SELECT {counted} FROM {raw} AS raw SEMI JOIN ({references(ledger)}) AS entered
            ON raw.object = entered.object AND raw.object_version = entered.object_version AND raw.month = entered.part
        ),
        lost AS (SELECT {counted} FROM ({losers(raw, ledger, LINES)})),
        expected AS (
            SELECT month, kind, sum(line) AS lines, sum(line * amount) AS amount FROM (
                SELECT *, 1 AS line FROM received UNION ALL SELECT *, -1 FROM lost
            ) GROUP BY ALL HAVING sum(line) <> 0
        ),
        stored AS (SELECT month, kind, count(*) AS lines, sum(amount) AS amount FROM {lines} GROUP BY ALL)
        SELECT month, kind, expected.lines AS expected_lines, stored.lines, expected.amount AS expected_amount,
            stored.amount
        FROM expected FULL JOIN stored USING (month, kind)
        WHERE (expected.lines, expected.amount) IS DISTINCT FROM (stored.lines, stored.amount)
    """)


def unusual_weekdays(lines: Relation) -> Query:
    """The weekdays of months with lines on which other months have hardly any."""
    return Query(f"""
        WITH counted AS (
            SELECT month, isodow(day) AS weekday, count(*) AS lines FROM {lines} GROUP BY ALL
        ),
        shares AS (
            SELECT month, weekday, lines,
                lines / sum(lines) OVER (PARTITION BY month) AS share,
                coalesce(
                    (sum(lines) OVER (PARTITION BY weekday) - lines)
                    / nullif(sum(lines) OVER () - sum(lines) OVER (PARTITION BY month), 0), 1
                ) AS share_elsewhere
            FROM counted
        )
        SELECT month, dayname(DATE '2024-01-01' + (weekday - 1)::INTEGER) AS weekday, lines, share, share_elsewhere
        FROM shares WHERE share > {_COMMON} AND share_elsewhere < {_RARE}
    """)


def case_twins(lines: Relation) -> Query:
    """Stock codes that differ in case alone."""
    return Query(f"""
        SELECT upper(stock_code) AS code, list_sort(list(DISTINCT stock_code)) AS written, count(*) AS lines
        FROM {lines} GROUP BY 1 HAVING count(DISTINCT stock_code) > 1
    """)


def countries_of_a_day(lines: Relation) -> Query:
    """The days on which a customer has lines in several countries."""
    return Query(f"""
        SELECT customer_id, day, list_sort(list(DISTINCT country)) AS countries FROM {lines}
        WHERE customer_id IS NOT NULL GROUP BY ALL HAVING count(DISTINCT country) > 1
    """)


def lines_without_one_version(lines: Relation, versions: Relation, key: str) -> Query:
    """The lines that resolve to no version of their `key`, or to several."""
    return Query(f"""
        SELECT line_key, any_value({key}) AS {key}, any_value(day) AS day, count(valid_from) AS versions FROM (
            SELECT own.line_key, own.{key}, own.day, versions.valid_from
            FROM {lines} AS own LEFT JOIN {versions} AS versions
            ON own.{key} = versions.{key} AND own.day >= versions.valid_from
            AND own.day < coalesce(versions.valid_to, DATE '9999-12-31')
            WHERE own.{key} IS NOT NULL
        ) GROUP BY line_key HAVING count(valid_from) <> 1
    """)


def discontinuous_versions(versions: Relation, key: str) -> Query:
    """The versions that don't end where the next one of their `key` begins."""
    return Query(f"""
        SELECT {key}, valid_from, valid_to FROM {versions}
        WINDOW ordered AS (PARTITION BY {key} ORDER BY valid_from)
        QUALIFY valid_to IS DISTINCT FROM lead(valid_from) OVER ordered
    """)
