"""The tables that roles may be given, with their columns and which of these are personal.

Of the lake's tables, their contracts say so. Of marts, it is said in dbt's YAML, as `config: {meta: {pii: true}}` of a
column; besides, a mart's column is personal if a column of that name is personal in a table of the kinds of sources
that the mart is made from, unless dbt's YAML says `pii: false`. So a column that is marked in a contract is masked in
marts too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from lakehouse import catalog
from lakehouse.governance.models import ModelColumn, models
from lakehouse.lake.contract import Contract, shared_contracts
from lakehouse.lake.lake import MARTS_SCHEMA
from lakehouse.lake.registry import SHARED_SCHEMA
from lakehouse.settings import Settings
from lakehouse.warehouse.parts import parts


@dataclass(frozen=True)
class VisibleTable:
    """A table that a role may see.

    Args:
        domain: whose table it is; None for the lake's own.
        is_served: whether a role that sees the domain sees it: raw revisions and logs of changes are given by name.
    """

    name: str
    domain: str | None
    columns: tuple[str, ...]
    personal: frozenset[str]
    is_served: bool = True


def visible_tables(config: Settings) -> dict[str, VisibleTable]:
    """Every table that the lake may have, and every mart, by its SQL name."""
    found = [*_shared(), *_of_sources(config), *_of_domains(), *_marts()]
    return {table.name: table for table in found}


def _table(name: str, domain: str | None, contract: Contract, is_served: bool = True) -> VisibleTable:
    personal = frozenset(column.name for column in contract.columns if column.is_personal)
    return VisibleTable(name, domain, tuple(contract.column_names), personal, is_served)


def _shared() -> Iterator[VisibleTable]:
    for name, contract in shared_contracts().items():
        yield _table(f"{SHARED_SCHEMA}.{name}", None, contract, is_served=False)


def _of_sources(config: Settings) -> Iterator[VisibleTable]:
    domain_of = catalog.domains_by_kind()
    for source in catalog.sources(config).values():
        derived = {table.name for table in source.tables}
        for name, contract in source.contracts.items():
            yield _table(f"{source.name}.{name}", domain_of[source.kind], contract, name in derived)


def _of_domains() -> Iterator[VisibleTable]:
    for domain in catalog.DOMAINS:
        for name, (contract, _) in domain.own_views().items():
            yield _table(f"{domain.name}.{name}", domain.name, contract)
        for name, (contract, _) in domain.views().items():
            yield _table(f"{SHARED_SCHEMA}.{name}", domain.name, contract)


def _marts() -> Iterator[VisibleTable]:
    domain_of = catalog.domains_by_kind()
    personal_of = {kind.name: _personal(kind.contracts()) for domain in catalog.DOMAINS for kind in domain.kinds}
    by_name = {part.name: part for part in parts()}
    for model in models().values():
        part = by_name[model.part]
        named = {name for kind in part.kinds for name in personal_of[kind]}
        personal = frozenset(column.name for column in model.columns if _is_personal(column, named))
        names = tuple(column.name for column in model.columns)
        yield VisibleTable(f"{MARTS_SCHEMA}.{model.name}", domain_of[part.schema], names, personal)


def _personal(contracts: Mapping[str, Contract]) -> set[str]:
    return {column.name for contract in contracts.values() for column in contract.columns if column.is_personal}


def _is_personal(column: ModelColumn, named: Collection[str]) -> bool:
    marked = column.meta.get("pii")
    return column.name in named if marked is None else bool(marked)
