"""What a role sees of each table: its columns, which of them are masked, and which rows. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lakehouse.errors import did_you_mean
from lakehouse.governance.roles import Grant, Role, RoleError
from lakehouse.governance.visible import VisibleTable
from lakehouse.lake.parsed import nodes, parsed


@dataclass(frozen=True)
class Sight:
    """What a role sees of a table.

    Args:
        rows: a predicate; None for all rows.
    """

    table: str
    columns: tuple[str, ...]
    masked: frozenset[str]
    rows: str | None = None

    @property
    def schema(self) -> str:
        """The table's SQL schema."""
        return self.table.partition(".")[0]

    @property
    def name(self) -> str:
        """The table's name in its schema."""
        return self.table.partition(".")[2]


def sights(role: Role, known: Mapping[str, VisibleTable]) -> list[Sight]:
    """What a role sees, table by table, sorted.

    Raises:
        RoleError: it names a domain, table or column that doesn't exist, or its predicate isn't one.
    """
    domains = {table.domain for table in known.values() if table.domain}
    for name in role.domains:
        if name not in domains:
            raise RoleError(
                f"role {role.role}: there is no domain {name!r}; there are {', '.join(sorted(domains))}"
                f"{did_you_mean(name, domains)}"
            )
    for grant in role.tables:
        if grant.table not in known:
            raise RoleError(
                f"role {role.role}: there is no table {grant.table!r}; correct `tables` in roles.yaml"
                f"{did_you_mean(grant.table, known)}"
            )
    granted = {grant.table: grant for grant in role.tables}
    whole = [table.name for table in known.values() if table.is_served and table.domain in role.domains]
    return [_sight(role, granted.get(name) or Grant(table=name), known[name]) for name in sorted({*granted, *whole})]


def _sight(role: Role, grant: Grant, table: VisibleTable) -> Sight:
    for name in _named(grant):
        if name not in table.columns:
            raise RoleError(
                f"role {role.role}: {grant.table} has no column {name!r}; it has {', '.join(table.columns)}"
                f"{did_you_mean(name, table.columns)}"
            )
    if both := sorted({*grant.masked} & {*grant.clear}):
        raise RoleError(f"role {role.role}: {grant.table}.{both[0]} is both masked and clear; remove one of the two")
    if grant.rows is not None:
        require_predicate(grant.rows, f"role {role.role}: `rows` of {grant.table}")
    columns = table.columns if grant.columns is None else grant.columns
    masked = frozenset(columns) & ((table.personal | {*grant.masked}) - {*grant.clear})
    return Sight(grant.table, tuple(columns), masked, grant.rows)


def _named(grant: Grant) -> Iterable[str]:
    return (*(grant.columns or ()), *grant.masked, *grant.clear)


def require_predicate(text: str, what: str) -> None:
    """Checks that a text is one expression over a table's columns.

    Raises:
        RoleError: it is more, such as two statements, or reads other tables.
    """
    advice = "write one condition over the table's columns, such as country = 'France'"
    # On lines of its own, so that a comment doesn't end what follows.
    found = parsed(f"SELECT (\n{text}\n)")
    if found["error"] or len(found["statements"]) != 1:
        raise RoleError(f"{what} is no predicate: {found.get('error_message', 'several statements')}; {advice}")
    selected = found["statements"][0]["node"].get("select_list", [])
    if len(selected) != 1 or any(node.get("class") == "SUBQUERY" for node in nodes(selected)):
        raise RoleError(f"{what} reads more than the row; {advice}")
