"""Holding rows against their contract: which are good, and why the others are not.

The same predicates serve twice: before a commit, to send bad rows to the quarantine, and afterwards, as a check
    on what is stored.
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
"""Rule name -> (DuckDB predicate that a good row fulfils, reason given for a row that doesn't)."""


def predicates_of(contract: Contract, connection: duckdb.DuckDBPyConnection, relation: str) -> Predicates:
    """The contract's predicates for the rows of `relation`. Standards with check digits are looked at once per
    distinct value.
    """
    found = dict(contract.predicates)
    for column, name in contract.formats.items():
        standard = STANDARDS[name]
        values = connection.execute(
            f'SELECT DISTINCT "{column}" FROM {relation} WHERE "{column}" IS NOT NULL'
        ).fetchall()
        wrong = [value for (value,) in values if not standard.follows(value)]
        # A plain text list keeps the predicate readable in an error; there are few wrong values, or the source
        # is misconfigured.
        refused = ", ".join(literal(value) for value in wrong if "\x00" not in value)
        tests = [f'"{column}" NOT IN ({refused})'] if refused else []
        if any("\x00" in value for value in wrong):
            # No SQL text can hold a NUL, and no identifier or code has one.
            tests.append(f'NOT contains("{column}", chr(0))')
        found[f"{column}_{name}"] = (" AND ".join(tests) or "true", f"{column} {standard.reason}")
    return found


def good(predicates: Predicates) -> str:
    """One SQL condition: every predicate is fulfilled or NULL."""
    return " AND ".join(f"coalesce({holds}, true)" for holds, _ in predicates.values())


def reasons(predicates: Predicates) -> str:
    """An SQL expression: the list of reasons why a row is refused."""
    cases = ", ".join(
        f"CASE WHEN NOT coalesce({holds}, true) THEN {literal(reason)} END" for holds, reason in predicates.values()
    )
    return f"list_filter([{cases}], lambda reason: reason IS NOT NULL)"


def broken_rules(predicates: Predicates, connection: duckdb.DuckDBPyConnection, relation: str) -> dict[str, int]:
    """Rule name -> how many rows of `relation` break it; rules that all rows fulfil are left out."""
    if not predicates:
        return {}
    counts = ", ".join(f"count(*) FILTER (NOT coalesce({holds}, true))" for holds, _ in predicates.values())
    row = connection.execute(f"SELECT {counts} FROM {relation}").fetchone()
    assert row is not None
    return {name: count for name, count in zip(predicates, row, strict=True) if count}
