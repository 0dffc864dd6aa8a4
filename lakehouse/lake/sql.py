"""Values as SQL text that Delta and DuckDB both understand.

DuckDB's own parameters are not used: binding one imports pandas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime

Partitions = Mapping[str, Sequence[date | str]]
"""Partition column -> the values wanted; a row is inside when it matches every column."""


def literal(value: date | str) -> str:
    """A partition value as an SQL literal (ISO dates and plain names; quotes are doubled)."""
    return "'" + str(value).replace("'", "''") + "'"


def timestamp_literal(moment: datetime) -> str:
    """An (aware) moment as an SQL literal that Delta and DuckDB compare with moments."""
    return literal(moment.astimezone(UTC).isoformat())


def parse_moment(text: str) -> datetime:
    """The (aware) moment that an ISO 8601 text names, in UTC where it names no offset; a date is its midnight.

    Raises:
        ValueError: it names none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"'{text}' is no timestamp; write it as 2026-11-20T18:00:00+00:00 (or a date)") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def predicate(partitions: Partitions) -> str:
    """The SQL predicate of `partitions`, understood by Delta and DuckDB alike. No value is like no row."""
    if not all(partitions.values()):
        return "false"
    return " AND ".join(f"{column} IN ({', '.join(map(literal, values))})" for column, values in partitions.items())
