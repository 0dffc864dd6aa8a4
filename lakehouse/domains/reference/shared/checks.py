"""Checks of views with two times."""

from __future__ import annotations

from collections.abc import Sequence

from lakehouse.derive.checks import offenders
from lakehouse.derive.source import Check, Finding, Partitions, Source, TableQuery
from lakehouse.lake.lake import Lake


def no_overlap(table: str, view: TableQuery, name: str, key: Sequence[str]) -> Check:
    """The check, on a stored table, that a view made of it says one thing about each key at a time.

    Args:
        name: of the view.
    """

    def run(lake: Lake, source: Source, partitions: Partitions) -> Finding:
        keys = ", ".join(key)
        same = " AND ".join(f"one.{column} = other.{column}" for column in key)
        with lake.connect() as connection:
            rows = view(lake, connection, source)
        query = f"""
            WITH rows AS (SELECT {keys}, valid_from, valid_to, known_from, known_to FROM ({rows})),
            several AS (FROM rows WHERE ({keys}) IN (SELECT ({keys}) FROM rows GROUP BY {keys} HAVING count(*) > 1))
            SELECT one.* FROM several AS one JOIN several AS other ON {same}
            AND (one.valid_from, one.known_from) < (other.valid_from, other.known_from)
            AND coalesce(one.valid_to > other.valid_from, true) AND coalesce(other.valid_to > one.valid_from, true)
            AND coalesce(one.known_to > other.known_from, true) AND coalesce(other.known_to > one.known_from, true)
        """
        return offenders(lake, query, "ALL", "1 row overlaps another of its key", "rows overlap others of their keys")

    description = (
        f"No two rows of {name} with the same {' and '.join(key)} are valid on one day and known at one moment."
    )
    return Check(table, f"no_overlap_in_{name}", description, run, blocking=True)
