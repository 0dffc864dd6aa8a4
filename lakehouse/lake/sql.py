"""SQL text that both Delta and DuckDB understand.

DuckDB's own parameters are not used, since binding one imports pandas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import NewType

Query = NewType("Query", str)
"""The text of a DuckDB query."""

Relation = NewType("Relation", str)
"""What a query can select from: a name, or a query in parentheses."""

Partitions = Mapping[str, Sequence[date | str]]
"""Partition column -> wanted values; a row must match every column."""


def literal(value: date | str) -> str:
    """A partition value as an SQL literal (ISO dates and plain names; quotes are doubled)."""
    return "'" + str(value).replace("'", "''") + "'"


def timestamp_literal(moment: datetime) -> str:
    """An (aware) moment as an SQL literal."""
    return literal(moment.astimezone(UTC).isoformat())


def parse_moment(text: str) -> datetime:
    """Parses an ISO 8601 text as an (aware) moment, in UTC unless it has an offset; a date means its midnight.

    Raises:
        ValueError: it is not one.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"'{text}' is no timestamp; write it as 2026-11-20T18:00:00+00:00 (or a date)") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def predicate(partitions: Partitions) -> str:
    """The SQL predicate for `partitions`. A column without wanted values matches no row."""
    if not all(partitions.values()):
        return "false"
    return " AND ".join(f"{column} IN ({', '.join(map(literal, values))})" for column, values in partitions.items())


def relation_of(query: str) -> Relation:
    """A query as a relation."""
    return Relation(f"({query})")


def difference_of(one: str, other: str) -> Relation:
    """The rows of two queries with the same columns that only one of them has, or that one has more often."""
    return relation_of(f"({one} EXCEPT ALL {other}) UNION ALL ({other} EXCEPT ALL {one})")
