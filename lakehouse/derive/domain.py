"""A domain: a field whose sources the lake takes in, with its tables and what readers see of them over all sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.derive.source import Source
from lakehouse.ingest.strict import Description
from lakehouse.ingest.variables import Variables
from lakehouse.lake.contract import Contract
from lakehouse.lake.lake import Lake

if TYPE_CHECKING:
    import duckdb

OverAll = Callable[[Sequence[Any], Lake, "duckdb.DuckDBPyConnection"], str]
"""Makes the DuckDB query of a view over all sources of a domain, as of `lake.as_of`."""

Attach = Callable[[Sequence[Any], Lake, "duckdb.DuckDBPyConnection", str], None]
"""Attaches further tables to a catalog (by its name) that dbt's models read, made of all sources of a kind."""


@dataclass(frozen=True)
class Kind:
    """A kind of source.

    Args:
        name: of the kind, and of the schema in which dbt's models find its tables over all sources.
        component: type of the Dagster component in a `defs.yaml`; of one of `lakehouse.components` its name alone.
        model: what the attributes of a `defs.yaml` may be.
        resolve: makes a source of the attributes and the settings.
        contracts: of all tables that its sources may have, by name.
        over_all: those of them that models read over all sources; a source that hasn't one is left out.
        marts: folder of the models that are made of it, in `dbt_project/models/marts`, and the group under which they
            are shown.
        attach: attaches what else the models read.
        reads: the tables that it makes that of, beside those over all sources.
    """

    name: str
    component: str
    model: type[Description]
    resolve: Callable[[Any, Variables], Source]
    contracts: Callable[[], Mapping[str, Contract]]
    over_all: tuple[str, ...] = ()
    marts: tuple[str, str] | None = None
    attach: Attach | None = None
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Domain:
    """A field of knowledge.

    Args:
        views: name of a view in the schema `lake` -> its contract and what makes it, over the domain's sources.
        reserved: further names of schemas that its models read, which no source may have.
    """

    name: str
    kinds: tuple[Kind, ...]
    views: Callable[[], Mapping[str, tuple[Contract, OverAll]]] = dict
    reserved: tuple[str, ...] = ()
