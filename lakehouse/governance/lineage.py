"""Lineage by column: which columns each column is made from, from what comes from outside to the marts.

The graph is made of three parts. `from_contracts` knows the lake's tables, by what contracts and sources declare;
`from_models` the marts, by the compiled SQL of dbt's models. This module has the graph itself and walks it. The
ledger's part, which rows a row is made from, is in `row_lineage`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from lakehouse.errors import did_you_mean
from lakehouse.governance.described import UnknownTable

OUTSIDE = "outside"
"""The schema of what isn't in the lake: fields of objects, messages and database tables."""


class ColumnName(NamedTuple):
    """A column by the SQL name of its table, such as `xetra.daily_bars`, and its own."""

    table: str
    column: str

    def __str__(self) -> str:
        return f"{self.table}.{self.column}"

    @property
    def is_outside(self) -> bool:
        """Whether it is a field of something outside of the lake."""
        return self.table.startswith(f"{OUTSIDE}.")


class Source(NamedTuple):
    """A column that another one is made from, and whether its values are taken over as they are."""

    column: ColumnName
    is_copy: bool


@dataclass(frozen=True)
class Lineage:
    """The graph. A column without sources is a constant, or made by the lake itself: a count, a moment, a number.

    Attributes:
        sources: column -> what it is made from.
        undeclared: columns of which nothing tells what they are made from.
    """

    sources: Mapping[ColumnName, tuple[Source, ...]]
    undeclared: frozenset[ColumnName] = field(default=frozenset())

    def joined(self, other: Lineage) -> Lineage:
        """Both graphs as one."""
        return Lineage({**self.sources, **other.sources}, self.undeclared | other.undeclared)

    @cached_property
    def targets(self) -> Mapping[ColumnName, tuple[ColumnName, ...]]:
        """Column -> what is made from it."""
        found: dict[ColumnName, list[ColumnName]] = {}
        for column, sources in self.sources.items():
            for source in sources:
                found.setdefault(source.column, []).append(column)
        return {column: tuple(dict.fromkeys(targets)) for column, targets in found.items()}

    def column(self, name: str) -> ColumnName:
        """The column of a name such as `marts.fct_daily_bar.close`.

        Raises:
            UnknownTable: it doesn't exist.
        """
        table, _, column = name.rpartition(".")
        wanted = ColumnName(table, column)
        if wanted in self.sources or wanted in self.targets:
            return wanted
        names = [str(known) for known in self.sources]
        raise UnknownTable(f"no column is called {name}; name it as schema.table.column{did_you_mean(name, names)}")

    def up(self, column: ColumnName) -> list[ColumnName]:
        """The columns that a column is made from."""
        return [source.column for source in self.sources.get(column, ())]

    def down(self, column: ColumnName) -> list[ColumnName]:
        """The columns that are made from a column."""
        return list(self.targets.get(column, ()))

    def nearest(self, column: ColumnName, known: Container[str], *, is_copy: bool = True) -> list[Source]:
        """What a column is made from in `known` tables, or outside of the lake: views that only models read are passed.
        A member of a captured row has the row's column and its own name: `image.amount`.
        """
        found: list[Source] = []
        for source in self.sources.get(column, ()):
            copies = is_copy and source.is_copy
            if source.column.table in known or source.column.is_outside:
                found.append(Source(source.column, copies))
            else:
                found += self.nearest(source.column, known, is_copy=copies)
        return list(dict.fromkeys(found))

    def all_up(self, columns: Iterable[ColumnName]) -> set[ColumnName]:
        """All columns that some columns are made from, however far."""
        return self._all(columns, self.up)

    def all_down(self, columns: Iterable[ColumnName]) -> set[ColumnName]:
        """All columns that are made from some columns, however far."""
        return self._all(columns, self.down)

    def _all(self, columns: Iterable[ColumnName], step: Any) -> set[ColumnName]:
        found: set[ColumnName] = set()
        waiting = list(columns)
        while waiting:
            for each in step(waiting.pop()):
                if each not in found:
                    found.add(each)
                    waiting.append(each)
        return found


@dataclass(frozen=True)
class Branch:
    """A column of a tree, and what it is made from or what is made from it.

    Attributes:
        seen: it is in the tree before, with its branches.
    """

    column: ColumnName
    branches: tuple[Branch, ...] = ()
    seen: bool = False

    def as_json(self) -> dict[str, Any]:
        """The tree as JSON."""
        found: dict[str, Any] = {"table": self.column.table, "column": self.column.column}
        if self.seen:
            found["seen"] = True
        if self.branches:
            found["columns"] = [branch.as_json() for branch in self.branches]
        return found


def tree(lineage: Lineage, column: ColumnName, *, upwards: bool) -> Branch:
    """The tree of a column up to what is outside, or down to the marts. A column is opened where it appears first."""
    step = lineage.up if upwards else lineage.down
    opened: set[ColumnName] = set()

    def branch(each: ColumnName) -> Branch:
        further = step(each)
        if each in opened and further:
            return Branch(each, seen=True)
        opened.add(each)
        return Branch(each, tuple(branch(next_one) for next_one in further))

    return branch(column)
