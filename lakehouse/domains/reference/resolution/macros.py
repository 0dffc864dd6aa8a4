"""The table macros `reference.resolve` and `reference.crosswalk`: the answers of `resolve`, in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lakehouse.derive.source import Source
from lakehouse.domains.reference.resolution.links import reached
from lakehouse.domains.reference.resolution.schemes import TARGETS
from lakehouse.lake.contract import empty_relation
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Query, Relation, literal

if TYPE_CHECKING:
    import duckdb

_KINDS = f"[{', '.join(literal(scheme) for scheme in TARGETS)}]"
_IDENTIFIERS = Relation("identifiers_of_macros")
"""The view that the macros read. DuckDB puts a macro's arguments in place of all columns of their names in its query:
behind a view it doesn't.
"""


def resolve(sources: Sequence[Source], lake: Lake, connection: duckdb.DuckDBPyConnection) -> None:
    """Makes `reference.resolve(identifier, target, mic, valid_on, known_at)` in `connection`: the answers of all kinds,
    or of the kind `target`, with scheme, answer, status (found or ambiguous) and steps. No row: none is known.
    """
    seeds = f"(SELECT 0 AS seed, unnest({_KINDS}) AS scheme, identifier::VARCHAR AS value, mic::VARCHAR AS market)"
    _make(
        lake,
        connection,
        "resolve(identifier, target := NULL, mic := NULL",
        f"""
        SELECT scheme, value AS answer,
            CASE WHEN count(*) OVER (PARTITION BY scheme) = 1 THEN 'found' ELSE 'ambiguous' END AS status, steps
        FROM ({_ways(seeds)}) AS ways WHERE len(steps) > 0 AND (target IS NULL OR scheme = target)
        """,
    )


def crosswalk(sources: Sequence[Source], lake: Lake, connection: duckdb.DuckDBPyConnection) -> None:
    """Makes `reference.crosswalk(listed, start, target, valid_on, known_at)` in `connection`: a row per element of the
    list `listed`, of the kind `start`, with its position, value, answer and status. Where there isn't one answer, it is
    NULL and the status ambiguous or none.
    """
    numbered = "SELECT unnest(listed::VARCHAR[]) AS value, unnest(range(len(listed))) AS position"
    seeds = f"(SELECT position AS seed, start AS scheme, value, NULL::VARCHAR AS market FROM ({numbered}))"
    _make(
        lake,
        connection,
        "crosswalk(listed, start, target",
        f"""
        SELECT asked.position + 1 AS position, asked.value,
            CASE WHEN count(found.value) = 1 THEN any_value(found.value) END AS answer,
            CASE count(found.value) WHEN 0 THEN 'none' WHEN 1 THEN 'found' ELSE 'ambiguous' END AS status
        FROM ({numbered}) AS asked LEFT JOIN ({_ways(seeds)}) AS found
        ON found.seed = asked.position AND found.scheme = target GROUP BY ALL
        """,
    )


def _ways(seeds: str) -> Query:
    return reached(_IDENTIFIERS, Relation(seeds), None, "valid_on", "known_at::TIMESTAMPTZ")


def _make(lake: Lake, connection: duckdb.DuckDBPyConnection, head: str, query: str) -> None:
    today = f"DATE {literal((lake.as_of or datetime.now(UTC)).date())}"
    empty = empty_relation(lake.registry.entry("reference/identifiers").contract)
    stored = lake.select("reference/identifiers", connection)
    connection.execute("CREATE SCHEMA IF NOT EXISTS reference")
    # When DuckDB creates a macro, it takes columns in a QUALIFY of a view for the macro's arguments of that name, and
    # gives up: the view gets its rows afterwards.
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {_IDENTIFIERS} AS FROM {empty}")
    connection.execute(
        f"CREATE OR REPLACE MACRO reference.{head}, valid_on := {today}, known_at := NULL) AS TABLE {query}"
    )
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {_IDENTIFIERS} AS {stored}")
