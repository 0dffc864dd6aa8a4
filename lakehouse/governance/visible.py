"""The tables that roles may be given, with their columns and which of these are personal.

Of the lake's tables, their contracts say so. A mart's column is personal if dbt's YAML says so, as
`config: {meta: {pii: true}}`; if a column of that name is personal in a table of the kinds of sources that the mart is
made from; or if it takes over a personal column under another name (see `inherited`). Where dbt's YAML says
`pii: false`, it is not. So a column that is marked in a contract is masked in marts too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lakehouse import catalog
from lakehouse.governance.described import described_tables
from lakehouse.governance.graph import whole_lineage
from lakehouse.governance.inherited import with_inherited
from lakehouse.lake.contract import Contract, shared_contracts
from lakehouse.lake.lake import MARTS_SCHEMA, Lake
from lakehouse.lake.registry import SHARED_SCHEMA
from lakehouse.settings import Settings


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


def visible_tables(lake: Lake, config: Settings) -> dict[str, VisibleTable]:
    """Every table that the lake may have, and every mart, by its SQL name.

    Raises:
        DbtFailed: dbt could not compile the models, so that it isn't known which of their columns are personal.
    """
    found = [*_shared(), *_of_sources(config), *_of_domains(), *_marts(lake, config)]
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


def _marts(lake: Lake, config: Settings) -> Iterator[VisibleTable]:
    tables = described_tables(lake)
    for table in with_inherited(tables, whole_lineage(tables, config)):
        if table.schema == MARTS_SCHEMA:
            personal = frozenset(column.name for column in table.columns if column.pii)
            names = tuple(column.name for column in table.columns)
            yield VisibleTable(table.sql_name, table.domain, names, personal)
