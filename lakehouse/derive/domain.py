"""The types of a domain: a field such as market data, with its kinds of sources, their tables, and views over all
sources.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.derive.source import Source
from lakehouse.ingest.strict import Description
from lakehouse.ingest.variables import Variables
from lakehouse.lake.contract import Contract, empty_relation
from lakehouse.lake.lake import Lake

if TYPE_CHECKING:
    import duckdb

OverAll = Callable[[Sequence[Any], Lake, "duckdb.DuckDBPyConnection"], str]
"""Makes the DuckDB query of a view over all sources of a domain, as of `lake.as_of`."""

OverAllMacro = Callable[[Sequence[Any], Lake, "duckdb.DuckDBPyConnection"], None]
"""Creates a table macro over all sources of a domain in a connection."""

Attach = Callable[[Sequence[Any], Lake, "duckdb.DuckDBPyConnection", str], None]
"""Attaches further tables, made of all sources of a kind, to the named catalog that dbt's models read."""

Reach = Callable[["duckdb.DuckDBPyConnection", str, str, bool], "Collection[str]"]
"""Follows changes to the models. Called with a connection to the marts as they were published, the catalog that the
models read, a schema with a table (source, day) for each table that models read over all sources: its partitions that
changed; and whether there is news of a kind that the models join. Adds to the schema what the models ask for to
restrict themselves. Returns the models that the changes don't reach though they read a changed table.
"""


@dataclass(frozen=True)
class Join:
    """What the models of a kind show of another one.

    Attributes:
        kind: the other one's name.
        models: those that show it. News of it reaches no others, even if they read these.
    """

    kind: str
    models: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """A kind of source.

    Args:
        name: name of the kind, and of the schema with its tables over all sources for dbt's models.
        component: type of the Dagster component in a `defs.yaml`; just the name for one of `lakehouse.components`.
        model: the model of a `defs.yaml`'s attributes.
        resolve: makes a source from the attributes and the settings.
        contracts: contracts of all tables that its sources may have, by name, with every column that one may have.
        usual: the same without the columns that few sources have, by which tables of a source are read that no
            defs.yaml describes; by default `contracts`.
        over_all: the tables that models read over all sources; sources without such a table are left out.
        marts: folder of its models in `dbt_project/models/marts`, and their group in Dagster.
        attach: attaches the other tables that the models read.
        reads: the tables that `attach` reads, besides those over all sources.
        joins: what its models join of further kinds.
        of_days_over: whether the models see only days (UTC) that are over of these tables.
        reach: follows changes to the models; without it, the models are built in full when anything changed.
    """

    name: str
    component: str
    model: type[Description]
    resolve: Callable[[Any, Variables], Source]
    contracts: Callable[[], Mapping[str, Contract]]
    usual: Callable[[], Mapping[str, Contract]] | None = None
    over_all: tuple[str, ...] = ()
    marts: tuple[str, str] | None = None
    attach: Attach | None = None
    reads: tuple[str, ...] = ()
    joins: tuple[Join, ...] = ()
    of_days_over: bool = False
    reach: Reach | None = None

    @property
    def tables_read(self) -> tuple[str, ...]:
        """The names of the sources' tables that its models read, themselves or by what is attached."""
        return (*self.over_all, *self.reads)


@dataclass(frozen=True)
class Domain:
    """A field, such as market data.

    Args:
        views: name of a view in the schema `lake` -> its contract and its query over the domain's sources.
        own_views: the same in the schema of the domain's own name, such as `reference.markets`: tables that its sources
            share (see `union_of`), and what is made of them.
        own_macros: name of a table macro in the schema of the domain's own name -> the function that creates it.
        reserved: further schema names that its models read, which no source may have.
    """

    name: str
    kinds: tuple[Kind, ...]
    views: Callable[[], Mapping[str, tuple[Contract, OverAll]]] = dict
    own_views: Callable[[], Mapping[str, tuple[Contract, OverAll]]] = dict
    own_macros: Callable[[], Mapping[str, OverAllMacro]] = dict
    reserved: tuple[str, ...] = ()

    @property
    def has_own_schema(self) -> bool:
        """Whether there are tables or macros in the schema of the domain's own name, which no source may have then."""
        return self.own_views is not dict or self.own_macros is not dict


def union_of(table: str, contract: Contract) -> tuple[Contract, OverAll]:
    """The view of a table (or view) over all sources of a domain that have it, for `Domain.own_views`. Columns that a
    source's own lacks are NULL.
    """

    def rows(sources: Sequence[Source], lake: Lake, connection: duckdb.DuckDBPyConnection) -> str:
        having = [source for source in sources if table in (*source.views, *(each.name for each in source.tables))]
        stored = [f"({lake.select(source.table(table), connection)})" for source in having]
        return " UNION ALL BY NAME ".join([f"(FROM {empty_relation(contract)})", *stored])

    return contract, rows
