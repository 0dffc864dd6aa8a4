"""The registry of a lake's tables: their contracts, and how each is read.

`lakehouse.catalog` builds it from the sources' descriptions and gives it to the lake, whose package knows no domain.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from lakehouse.errors import did_you_mean
from lakehouse.lake.contract import Contract, ContractError
from lakehouse.lake.sql import Partitions
from lakehouse.lake.stored_table import Pins

if TYPE_CHECKING:
    import duckdb

LakeT = TypeVar("LakeT")
"""The lake, which the registry's functions are called with and which holds the registry."""

TableQuery = Callable[[LakeT, "duckdb.DuckDBPyConnection"], str]
"""Returns the DuckDB query for a table's rows, as of the lake's moment."""

Rows = Callable[[LakeT, "duckdb.DuckDBPyConnection", str, "Partitions | None"], str]
"""Returns the DuckDB query for the rows of a table (in some partitions) that count, as of the lake's moment."""

Macro = Callable[[LakeT, "duckdb.DuckDBPyConnection"], None]
"""Creates a table macro in a connection."""


class MartsFile(Protocol):
    """A DuckDB file of marts, which is deleted with this object."""

    @property
    def path(self) -> Path:
        """The file's path."""


MartsAsOf = Callable[[datetime, Collection[str] | None, Pins], MartsFile]
"""Builds the marts as of a moment, some models or (None) all, from the tables at their pinned versions."""

SHARED_SCHEMA = "lake"
"""The SQL schema of the tables that all sources share."""


@dataclass(frozen=True)
class Entry(Generic[LakeT]):
    """A table. `query` returns the rows of a view, `as_of` those of a derived table as of a past moment, and `rows`
    those of a stored table that count, if not all do.
    """

    contract: Contract
    query: TableQuery[LakeT] | None = None
    as_of: TableQuery[LakeT] | None = None
    rows: Rows[LakeT] | None = None


@dataclass(frozen=True)
class Kind(Generic[LakeT]):
    """The tables that sources of a kind may have."""

    name: str
    tables: Mapping[str, Entry[LakeT]]


@dataclass(frozen=True)
class Registry(Generic[LakeT]):
    """The tables that a lake may have.

    Args:
        shared: tables directly below the lake's root, in the SQL schema `lake`.
        kinds: tell the tables of a stored source that has no description any more.
        sources: source -> its kind's name and its tables.
        domains: SQL schema -> the views over several sources in it, or the tables of no source.
        macros: source, or SQL schema of a domain -> name of a table macro -> the function that creates it.
        marts_as_of: builds the marts as of a moment.
    """

    shared: Mapping[str, Entry[LakeT]] = field(default_factory=dict)
    kinds: tuple[Kind[LakeT], ...] = ()
    sources: Mapping[str, tuple[str, Mapping[str, Entry[LakeT]]]] = field(default_factory=dict)
    domains: Mapping[str, Mapping[str, Entry[LakeT]]] = field(default_factory=dict)
    macros: Mapping[str, Mapping[str, Macro[LakeT]]] = field(default_factory=dict)
    marts_as_of: MartsAsOf | None = None

    def entry(self, path: str) -> Entry[LakeT]:
        """The table at a path in the lake, such as `xetra/daily_bars` or `ingest_ledger`. A path with a table of
        another kind, such as `xetra/quotes`, has an entry too: reading it fails, and the error lists the existing ones.

        Raises:
            ContractError: no contract has that table name.
        """
        source, _, table = path.rpartition("/")
        if source in self.domains and table in self.domains[source]:
            return self.domains[source][table]
        _, own = self.sources.get(source, ("", {}))
        of_kinds = {name: entry for kind in reversed(self.kinds) for name, entry in kind.tables.items()}
        for known in (own, of_kinds, self.shared) if source else (self.shared, of_kinds):
            if table in known:
                return known[table]
        names = {*self.shared, *self.domains.get(source, ()), *(name for kind in self.kinds for name in kind.tables)}
        raise ContractError(
            f"no contract for table '{path}'; the lake has contracts for {', '.join(sorted(names))}"
            f"{did_you_mean(table, names)}"
        )

    def kinds_of(self, source: str, stored: Collection[str]) -> list[Kind[LakeT]]:
        """The kind of a described source; otherwise the kinds that have a table among the `stored` names."""
        if source in self.sources:
            name, tables = self.sources[source]
            return [Kind(name, tables)]
        return [kind for kind in self.kinds if not kind.tables.keys().isdisjoint(stored)]

    @property
    def macro_names(self) -> list[str]:
        """The names of all table macros, sorted."""
        return sorted({name for macros in self.macros.values() for name in macros})
