"""The checks of mappings."""

from __future__ import annotations

from functools import partial

from lakehouse.derive.checks import offenders
from lakehouse.derive.source import Check, Finding, Partitions, Source
from lakehouse.lake.lake import Lake


def pair_checks(value: str, table: str) -> tuple[Check, ...]:
    """The checks of pairs, on the stored table with what counts of them. `value`: the column beside the LEI."""
    return (
        Check(
            table,
            "no_new_conflicts",
            f"The newest publication makes no {value.upper()} stand for several entities at once.",
            partial(_new_conflicts, value, table),
            severity="warn",
        ),
    )


def _new_conflicts(value: str, table: str, lake: Lake, source: Source, partitions: Partitions) -> Finding:
    with lake.connect() as connection:
        stored = lake.select(source.table(table), connection)
    # Only what the newest publication added is looked up: the first one is no news.
    query = f"""
        WITH pairs AS NOT MATERIALIZED (FROM ({stored})),
        newest AS (
            SELECT DISTINCT {value} FROM pairs WHERE NOT coalesce(is_removed, false)
            AND published = (SELECT max(published) FROM pairs)
            AND published > (SELECT min(published) FROM pairs)
        ),
        now AS (
            SELECT {value}, lei, arg_max(coalesce(is_removed, false), published) AS is_gone
            FROM pairs SEMI JOIN newest USING ({value}) GROUP BY ALL
        )
        SELECT {value}, string_agg(lei, ', ' ORDER BY lei) AS entities FROM now WHERE NOT is_gone
        GROUP BY {value} HAVING count(*) > 1
    """
    one, several = f"1 {value.upper()} stands for several entities since the newest publication", f"{value.upper()}s do"
    return offenders(lake, query, value, one, several)
