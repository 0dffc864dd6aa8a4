"""Numbers that commits store under names, read from a table's log all at once.

Delta keeps the last number of each name (an application transaction's version): in the log's newest checkpoint, and in
the commits after it. delta-rs looks names up one by one, each time through the whole log; a table may have thousands.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lakehouse.lake.engine import opened
from lakehouse.lake.sql import literal

if TYPE_CHECKING:
    import duckdb

ABOUT_ROWS = ("made-from:", "content:")
"""Prefixes of names whose numbers are about stored rows, by partition (see `lakehouse.derive.fingerprints`): a commit
that replaces rows by others, such as those of a release, makes them void.
"""
VOID = 0


def marks(uri: str, version: int, prefix: str) -> dict[str, int]:
    """The last number of each name with a prefix, by the rest of the name. Of numbers about rows only those that no
    commit since has made untrue: one that changes rows and stores no such number is of a writer that knows of none,
    such as another program or an earlier release.

    Args:
        uri: of the table, as DuckDB reads it.
        version: up to which the log is read; a later checkpoint may show later numbers.

    Returns: nothing if the log can't be read so, for example since a checkpoint is missing. Numbers are remembered
        work: without them it is done again. Commits are looked at from the newest checkpoint on.
    """
    import duckdb

    log = f"{uri}/_delta_log"
    with opened(uri) as connection:
        first, queries = _checkpoint(connection, log)
        commits = [literal(f"{log}/{number:020}.json") for number in range(first, version + 1)]
        if commits:
            stored = f"SELECT commit, txn.appId, txn.version FROM ({_actions(commits)})"
            queries.append(f"{stored} WHERE txn.appId IS NOT NULL")
        since = f"({_last_strange(commits)})" if commits and prefix in ABOUT_ROWS else "NULL"
        try:
            found = connection.execute(
                f"""
                SELECT name[{len(prefix) + 1}:], arg_max(number, commit) FROM ({" UNION ALL ".join(queries)})
                AS numbers (commit, name, number) WHERE starts_with(name, {literal(prefix)})
                GROUP BY name HAVING max(commit) >= coalesce({since}, 0)
                """
            ).fetchall()
        except duckdb.Error:
            return {}
    return dict(found)


def _actions(commits: list[str]) -> str:
    return f"""
        SELECT regexp_extract(filename, '([0-9]+)\.json$', 1)::BIGINT AS commit, txn, add, remove
        FROM read_json([{", ".join(commits)}], format = 'newline_delimited', filename = true, columns = {{
            txn: 'STRUCT(appId VARCHAR, version BIGINT)', add: 'STRUCT(dataChange BOOLEAN)',
            remove: 'STRUCT(dataChange BOOLEAN)'
        }})
    """


def _last_strange(commits: list[str]) -> str:
    """The last commit that changes rows and stores no number about them."""
    says = " OR ".join(f"starts_with(txn.appId, {literal(prefix)})" for prefix in ABOUT_ROWS)
    return f"""
        SELECT max(commit) FROM (
            SELECT commit, bool_or(coalesce(add.dataChange, remove.dataChange, false)) AS changes,
                bool_or(coalesce({says}, false)) AS says
            FROM ({_actions(commits)}) GROUP BY commit
        ) WHERE changes AND NOT says
    """


def _checkpoint(connection: duckdb.DuckDBPyConnection, log: str) -> tuple[int, list[str]]:
    """The first version after the newest checkpoint, and the query for the numbers in the checkpoint."""
    import duckdb

    try:
        row = connection.execute(f"SELECT content FROM read_text({literal(f'{log}/_last_checkpoint')})").fetchone()
        last = int(json.loads(row[0])["version"]) if row else None
    except (duckdb.Error, ValueError, KeyError):
        last = None
    if last is None:
        return 0, []
    path = literal(f"{log}/{last:020}.checkpoint.parquet")
    return last + 1, [f"SELECT {last}, txn.appId, txn.version FROM read_parquet({path}) WHERE txn.appId IS NOT NULL"]
