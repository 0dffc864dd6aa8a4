"""What a lake is known to hold: the tables of its sources, how each is read, and the names that SQL knows them by.

The lake's own package knows none of them. They are put together where the sources' descriptions are read (see
`lakehouse.catalog`) and given to the lake.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lakehouse.errors import did_you_mean
from lakehouse.lake.contract import Contract, ContractError
from lakehouse.lake.sql import Partitions
from lakehouse.lake.stored_table import Pins

if TYPE_CHECKING:
    import duckdb

    from lakehouse.lake.lake import Lake

Query = Callable[["Lake", "duckdb.DuckDBPyConnection"], str]
"""Makes the DuckDB query of a table's rows, as of `lake.as_of`."""

Rows = Callable[["Lake", "duckdb.DuckDBPyConnection", str, "Partitions | None"], str]
"""Makes the DuckDB query of those rows of a table (of some partitions) that count, as of `lake.as_of`."""

Macro = Callable[["Lake", "duckdb.DuckDBPyConnection"], None]
"""Makes a table macro in a connection."""


class MartsFile(Protocol):
    """A DuckDB file of marts, which goes with the object that names it."""

    @property
    def path(self) -> Path:
        """Where the file is."""


MartsAsOf = Callable[[datetime, Collection[str] | None, Pins], MartsFile]
"""Makes the marts as of a moment, those models or (None) all, from tables read at the versions that are pinned."""

SHARED_SCHEMA = "lake"
"""The SQL schema of the tables that all sources share."""


@dataclass(frozen=True)
class Entry:
    """A table: `query` makes the rows of a view, `as_of` those of a derived table as of a past moment, and `rows`
    selects those of a stored one that count, where not all do.
    """

    contract: Contract
    query: Query | None = None
    as_of: Query | None = None
    rows: Rows | None = None


@dataclass(frozen=True)
class Kind:
    """The tables that all sources of a kind may have, and whether each is described at present or was once."""

    name: str
    tables: Mapping[str, Entry]


@dataclass(frozen=True)
class Registry:
    """The tables that a lake may have.

    Args:
        shared: those below the lake's root, which SQL has in the schema `lake`.
        kinds: by which the tables of a source are told whose description is gone.
        sources: source -> its kind's name and its tables.
        macros: source -> name of a table macro -> what makes it.
        marts_as_of: makes the marts as of a moment.
    """

    shared: Mapping[str, Entry] = field(default_factory=dict)
    kinds: tuple[Kind, ...] = ()
    sources: Mapping[str, tuple[str, Mapping[str, Entry]]] = field(default_factory=dict)
    macros: Mapping[str, Mapping[str, Macro]] = field(default_factory=dict)
    marts_as_of: MartsAsOf | None = None

    def entry(self, path: str) -> Entry:
        """The table at a path in the lake, such as `xetra/daily_bars` or `ingest_ledger`. One that only others have,
        such as `xetra/quotes`, is a table too: it is missing when it is read, which says what there is instead.

        Raises:
            ContractError: there is no contract for it.
        """
        source, _, table = path.rpartition("/")
        _, own = self.sources.get(source, ("", {}))
        of_kinds = {name: entry for kind in reversed(self.kinds) for name, entry in kind.tables.items()}
        for known in (own, of_kinds, self.shared) if source else (self.shared, of_kinds):
            if table in known:
                return known[table]
        names = {*self.shared, *(name for kind in self.kinds for name in kind.tables)}
        raise ContractError(
            f"no contract for table '{path}'; the lake has contracts for {', '.join(sorted(names))}"
            f"{did_you_mean(table, names)}"
        )

    def kinds_of(self, source: str, stored: Collection[str]) -> list[Kind]:
        """The kinds of a source of which the lake has stored tables of these names; its own, where it is described."""
        if source in self.sources:
            name, tables = self.sources[source]
            return [Kind(name, tables)]
        return [kind for kind in self.kinds if not kind.tables.keys().isdisjoint(stored)]

    @property
    def macro_names(self) -> list[str]:
        """The names of all table macros, sorted."""
        return sorted({name for macros in self.macros.values() for name in macros})
