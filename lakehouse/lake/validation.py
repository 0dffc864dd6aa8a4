"""Validates rows by their contract, and gives the reasons against invalid ones.

The same predicates are used before a commit, to send invalid rows to the quarantine, and afterwards, as a check of the
stored rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lakehouse.lake.contract import Contract
from lakehouse.lake.sql import literal
from lakehouse.lake.standards import STANDARDS

if TYPE_CHECKING:
    import duckdb

Predicates = Mapping[str, tuple[str, str]]
"""Rule name -> (DuckDB predicate that a valid row fulfils, reason against a row that doesn't)."""


def predicates_of(contract: Contract, connection: duckdb.DuckDBPyConnection, relation: str) -> Predicates:
    """The contract's predicates for the rows of `relation`. Formats are judged outside SQL, once per distinct value."""
    found = dict(contract.predicates)
    for column, name in contract.formats.items():
        standard = STANDARDS[name]
        values = connection.sql(f'SELECT DISTINCT "{column}" FROM {relation} WHERE "{column}" IS NOT NULL').pl()[column]
        wrong = values.filter(~standard.follow(values)).to_list()
        # There are few wrong values, unless the source is misconfigured, so a list of them stays readable in errors.
        refused = ", ".join(literal(value) for value in wrong if "\x00" not in value)
        tests = [f'"{column}" NOT IN ({refused})'] if refused else []
        if any("\x00" in value for value in wrong):
            # SQL text can't contain NUL, and no identifier or code does.
            tests.append(f'NOT contains("{column}", chr(0))')
        found[f"{column}_{name}"] = (" AND ".join(tests) or "true", f"{column} {standard.reason}")
    return found


def good(predicates: Predicates) -> str:
    """The SQL condition that every predicate is fulfilled or NULL."""
    return " AND ".join(f"coalesce({holds}, true)" for holds, _ in predicates.values())


def reasons(predicates: Predicates) -> str:
    """The SQL expression for the list of reasons against a row."""
    cases = ", ".join(
        f"CASE WHEN NOT coalesce({holds}, true) THEN {literal(reason)} END" for holds, reason in predicates.values()
    )
    return f"list_filter([{cases}], lambda reason: reason IS NOT NULL)"


def broken_rules(predicates: Predicates, connection: duckdb.DuckDBPyConnection, relation: str) -> dict[str, int]:
    """Rule name -> the number of rows of `relation` that break it; without rules that all rows fulfil."""
    if not predicates:
        return {}
    counts = ", ".join(f"count(*) FILTER (NOT coalesce({holds}, true))" for holds, _ in predicates.values())
    row = connection.execute(f"SELECT {counts} FROM {relation}").fetchone()
    assert row is not None
    return {name: count for name, count in zip(predicates, row, strict=True) if count}
