"""A query as DuckDB parses it: its nodes, and the tables that it names. No table needs to exist for that.

Whether a query may run is decided in `locked`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lakehouse.lake.sql import literal


def parsed(query: str) -> dict[str, Any]:
    """What DuckDB's `json_serialize_sql` says: `statements`; or `error`, `error_type` and `error_message`, as for
    statements other than SELECT.

    Raises:
        RecursionError: the query is nested too deeply.
    """
    import duckdb

    with duckdb.connect() as parser:
        (text,) = parser.execute(f"SELECT json_serialize_sql({literal(query)}, skip_default := true)").fetchall()[0]
    found: dict[str, Any] = json.loads(text)
    return found


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every node of a parsed query."""
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def tables_in(query: str) -> list[tuple[str, str]] | None:
    """The (schema, table) pairs that a query names in lower case, with schema "" if it names only the table; None
    for statements that DuckDB doesn't show parsed.
    """
    try:
        found = parsed(query)
        return None if found["error"] else list(dict.fromkeys(_tables(found["statements"], frozenset())))
    except RecursionError:
        return None


def _tables(tree: Any, named: frozenset[str]) -> Iterator[tuple[str, str]]:
    """The tables below a node, where `named` are the common table expressions in force."""
    if isinstance(tree, list):
        for each in tree:
            yield from _tables(each, named)
    elif isinstance(tree, dict):
        if tree.get("type") == "BASE_TABLE":
            schema, table = tree.get("schema_name", "").lower(), tree["table_name"].lower()
            if schema or table not in named:
                yield schema, table
        for each in tree.get("cte_map", {}).get("map", ()):
            name, query = each["key"].lower(), each["value"]
            # Without RECURSIVE, its own name within it means a table.
            is_recursive = query["query"]["node"]["type"] == "RECURSIVE_CTE_NODE"
            yield from _tables(query, named | {name} if is_recursive else named)
            named |= {name}
        yield from _tables([value for member, value in tree.items() if member != "cte_map"], named)
