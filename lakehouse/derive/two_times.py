"""Rows with two times, as DuckDB queries: from when to when something is true (`valid_from`, `valid_to`), and from when
to when its publisher said so (`known_from`, `known_to`). Both are half-open; an open end is NULL.

The input is what was published about each key, one row per key and publication. Its order doesn't matter, so that
publications loaded in any order give the same. `changes` leaves out what repeats the publication before, and
`two_times` makes the rows:

    published           content          valid             known
    2024-01-01          A                [01-01, ...)      [01-01, 03-01)     A is true until further notice
    2024-02-01          A
    2024-03-01          B                [01-01, 03-01)    [03-01, ...)       A is known to have ended
                                         [03-01, ...)      [03-01, ...)       B

So the rows with `known_to IS NULL` are the history as it is known now, and of each key at most one row is valid on a
day and known at a moment. What was published later says more: if it is effective earlier than an older row, it takes
that row's place.

What a publication and a key are, and how a row's effective date is found, belongs in the domains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lakehouse.lake.sql import Query, Relation

_FACTS = ("published", "effective", "is_removed")


@dataclass(frozen=True)
class Versions:
    """How the published rows of a key are compared.

    Args:
        key: columns that identify what the rows are about.
        content: columns by which a row says something new.
        further: columns that a version keeps of the publication that began it.
        ends: column of dates with the end that a row itself states, if there is one.
    """

    key: tuple[str, ...]
    content: tuple[str, ...]
    further: tuple[str, ...] = ()
    ends: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.key, *self.content, *self.further)


def with_removals(rows: Relation, key: Sequence[str]) -> Query:
    """The rows of whole publications, and one with `is_removed` for each key that the next publication lacks.

    Args:
        rows: the key, `published` (a moment), `effective` (a date), and further columns.
    """
    keys = ", ".join(key)
    return Query(f"""
        WITH publications AS (
            SELECT published, lead(published) OVER (ORDER BY published) AS following
            FROM (SELECT DISTINCT published FROM {rows})
        ),
        followed AS (
            SELECT {keys}, following, lead(published) OVER (PARTITION BY {keys} ORDER BY published) AS again
            FROM {rows} JOIN publications USING (published)
        )
        SELECT *, false AS is_removed FROM {rows}
        UNION ALL BY NAME
        SELECT {keys}, following AS published, {day_of("following")} AS effective, true AS is_removed FROM followed
        WHERE following IS NOT NULL AND again IS DISTINCT FROM following
    """)


def changes(rows: Relation, versions: Versions) -> Query:
    """The rows that say something else than the row of their key published before.

    Args:
        rows: the columns of `versions`, `published` (a moment), `effective` (a date) and `is_removed`; one row per key
            and moment.
    """
    keys, content = ", ".join(versions.key), f"({', '.join(versions.content) or 'NULL'})"
    columns = ", ".join(_columns(versions))
    return Query(f"""
        SELECT {columns} FROM {rows} WINDOW series AS (PARTITION BY {keys} ORDER BY published)
        QUALIFY coalesce(lag(is_removed) OVER series, true) <> is_removed
            OR NOT is_removed AND {content} IS DISTINCT FROM lag({content}) OVER series
    """)


def two_times(rows: Relation, versions: Versions) -> Query:
    """The rows with their two times, from what `changes` returns."""
    keys, columns = ", ".join(versions.key), ", ".join(versions.columns)
    same = " AND ".join(f"version.{column} = later.{column}" for column in versions.key)
    end = "valid_to" if versions.ends is None else f"least(valid_to, {versions.ends})"
    ends = () if versions.ends is None or versions.ends in versions.columns else (versions.ends,)
    own = ", ".join(f"version.{column}" for column in (*versions.columns, *ends))
    return Query(f"""
        WITH numbered AS NOT MATERIALIZED (
            SELECT {", ".join(_columns(versions))},
                row_number() OVER series AS number, lead(published) OVER series AS replaced
            FROM {rows} WINDOW series AS (PARTITION BY {keys} ORDER BY published)
        ),
        ended AS (
            SELECT {own}, version.effective, version.number, later.published AS known_from,
                min(later.effective) OVER (PARTITION BY {_of("version", (*versions.key, "number"))}
                    ORDER BY later.number ROWS UNBOUNDED PRECEDING) AS valid_to
            FROM (SELECT * FROM numbered WHERE replaced IS NOT NULL AND NOT is_removed) AS version
            JOIN (SELECT * FROM numbered WHERE number > 1) AS later ON {same} AND later.number > version.number
        ),
        changed AS (
            SELECT * FROM ended QUALIFY valid_to IS DISTINCT FROM
                lag(valid_to) OVER (PARTITION BY {keys}, number ORDER BY known_from)
        ),
        believed AS (
            SELECT * RENAME (published AS known_from, replaced AS known_to), NULL::DATE AS valid_to FROM numbered
            WHERE NOT is_removed
            UNION ALL BY NAME
            SELECT *, lead(known_from) OVER (PARTITION BY {keys}, number ORDER BY known_from) AS known_to FROM changed
        )
        SELECT {columns}, effective AS valid_from, {end} AS valid_to, known_from, known_to FROM believed
        WHERE {end} IS NULL OR effective < {end}
    """)


def history(rows: Relation, versions: Versions) -> Query:
    """`two_times` of the `changes`. Most keys were published once, and windows are the most expensive step: only keys
    whose hash occurs more than once go through them.
    """
    key_hash = f"hash({', '.join(versions.key)})"
    several = Relation(f"(FROM {rows} WHERE {key_hash} IN (FROM repeated))")
    end = "NULL::DATE" if versions.ends is None else versions.ends
    return Query(f"""
        WITH repeated AS MATERIALIZED (
            SELECT {key_hash} AS key_hash FROM {rows} GROUP BY key_hash HAVING count(*) > 1
        )
        SELECT {", ".join(versions.columns)}, effective AS valid_from, {end} AS valid_to, published AS known_from,
            NULL::TIMESTAMPTZ AS known_to
        FROM {rows} WHERE NOT is_removed AND ({end} IS NULL OR effective < {end}) AND {key_hash} NOT IN (FROM repeated)
        UNION ALL
        ({two_times(Relation(f"({changes(several, versions)})"), versions)})
    """)


def day_of(moment: str) -> str:
    """The SQL expression for the day (UTC) of a moment."""
    return f"({moment} AT TIME ZONE 'UTC')::DATE"


def _columns(versions: Versions) -> tuple[str, ...]:
    ends = () if versions.ends is None else (versions.ends,)
    return tuple(dict.fromkeys((*versions.columns, *ends, *_FACTS)))


def _of(relation: str, columns: Sequence[str]) -> str:
    return ", ".join(f"{relation}.{column}" for column in columns)
