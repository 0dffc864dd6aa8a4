"""Lineage of the lake's tables. A column is made from the columns of the same name, unless its contract says from which
(`from`). What comes from outside is known by the formats of objects, feeds and captured databases.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from lakehouse import catalog
from lakehouse.catalog import sources
from lakehouse.derive.captured import CapturedSource
from lakehouse.derive.source import Source as LakeSource
from lakehouse.domains.market.quotes.feed import Feed
from lakehouse.governance.described import DescribedTable
from lakehouse.governance.lineage import OUTSIDE, ColumnName, Lineage, Source
from lakehouse.ingest.coerce import PROVENANCE
from lakehouse.ingest.dataset import Dataset
from lakehouse.lake.contract import Column, Contract
from lakehouse.lake.registry import SHARED_SCHEMA

_IMAGE = "image"
"""The column of a table of changes with the whole row, as JSON."""


def lineage_of_contracts(tables: Sequence[DescribedTable]) -> Lineage:
    """The lineage of every table of the lake."""
    contracts = {table.sql_name: table.contract for table in tables if table.contract is not None}
    known = sources()
    found: dict[ColumnName, tuple[Source, ...]] = {}
    undeclared: set[ColumnName] = set()
    for table in tables:
        if table.contract is None:
            continue
        unknown: Inputs = dict.fromkeys(table.contract.column_names)
        for column, inputs in (unknown | _of_table(table, table.contract, contracts, known)).items():
            name = ColumnName(table.sql_name, column)
            found[name] = inputs or ()
            if inputs is None:
                undeclared.add(name)
    return Lineage(found, frozenset(undeclared))


Inputs = dict[str, tuple[Source, ...] | None]
"""Column -> its sources; None: nothing tells them."""


def _of_table(
    table: DescribedTable, contract: Contract, contracts: Mapping[str, Contract], known: Mapping[str, LakeSource]
) -> Inputs:
    source = known.get(table.schema)
    if isinstance(source, CapturedSource) and (made := _captured(table, contract, source)) is not None:
        return made
    if source is not None:
        for dataset in source.datasets:
            if dataset.table == table.path:
                return {column.name: _received(dataset, column) for column in contract.columns}
        if isinstance(source, Feed) and table.kind == "raw":
            return {column.name: _said(source, column) for column in contract.columns}
    if united := _united(table, contracts, known) if source is None else []:
        return {
            column.name: _by_name(column.name, united, contracts, contract.column_names) for column in contract.columns
        }
    if source is not None and not _has(source, table.name):
        return dict.fromkeys(contract.column_names, ())
    inputs = [name for name in _inputs(table, contract, source, known) if name in contracts]
    keeps = source is not None and any(each.name == table.name and each.keeps is not None for each in source.tables)
    copied = contract.column_names if keeps else contract.key
    is_of_the_lake = table.kind == "system" or not contract.domain
    # A view that unites no source has no rows.
    unnamed = () if is_of_the_lake or not (source or contract.made_from) else None
    return {
        column.name: _by_name(column.name, inputs, contracts, copied) or unnamed
        if column.made_from is None
        else _declared(table.schema, column.made_from, inputs, contracts)
        for column in contract.columns
    }


def _has(source: LakeSource, table: str) -> bool:
    """Whether a source has a table: its kind may have more."""
    names = {*(each.name for each in source.tables), *source.views, *(each.contract.table for each in source.datasets)}
    return table in names or isinstance(source, CapturedSource)


def _united(table: DescribedTable, contracts: Mapping[str, Contract], known: Mapping[str, LakeSource]) -> list[str]:
    """The tables of a domain's sources that a view in the domain's schema unites."""
    return [name for name in _of_domain(table.schema, table.name, known) if name in contracts]


def _of_domain(domain: str, table: str, known: Mapping[str, LakeSource]) -> list[str]:
    """A table of every source of a domain."""
    kinds = {kind.name for each in catalog.DOMAINS if each.name == domain for kind in each.kinds}
    return [f"{name}.{table}" for name, source in known.items() if source.kind in kinds]


def _inputs(
    table: DescribedTable, contract: Contract, source: LakeSource | None, known: Mapping[str, LakeSource]
) -> list[str]:
    """The tables that a table is made from."""
    derived = [each for each in source.tables if each.name == table.name] if source else []
    found = []
    for name in derived[0].depends_on if derived else contract.made_from:
        if "." in name:
            found.append(name)
        elif table.schema == SHARED_SCHEMA:
            found += _of_domain(contract.domain, name, known)
        else:
            found.append(f"{table.schema}.{name}")
    return found


def _by_name(
    column: str, inputs: Iterable[str], contracts: Mapping[str, Contract], copied: Collection[str]
) -> tuple[Source, ...]:
    """The columns of the same name in the tables that a table is made from."""
    having = [name for name in inputs if column in contracts[name].column_names]
    return tuple(Source(ColumnName(name, column), column in copied) for name in having)


def _declared(
    schema: str, said: Iterable[str], inputs: Sequence[str], contracts: Mapping[str, Contract]
) -> tuple[Source, ...]:
    """The columns that a contract names in `from`. Of several sources with the contract, one may lack some of them."""
    found: dict[ColumnName, None] = {}
    for name in said:
        *table, column = name.split(".")
        wanted = inputs if not table else [".".join(table if len(table) == 2 else [schema, *table])]
        for each in wanted:
            if each in contracts and column in contracts[each].column_names:
                found[ColumnName(each, column)] = None
    return tuple(Source(each, False) for each in found)


def _received(dataset: Dataset, column: Column) -> tuple[Source, ...] | None:
    """What a column of a raw table is read from."""
    rows, outside = dataset.rows, f"{OUTSIDE}.{dataset.source}.{dataset.name}"
    if column.made_from is not None:
        return tuple(Source(ColumnName(outside, name), False) for name in column.made_from)
    if column.name in PROVENANCE or column.name in rows.constants:
        return ()
    if column.name in rows.columns:
        return (Source(ColumnName(outside, rows.columns[column.name]), True),)
    if column.name in rows.named:
        return (Source(ColumnName(outside, f"name: {rows.named[column.name]}"), True),)
    is_partition = column.name in (dataset.partition_column, dataset.part.column)
    if rows.time is not None and (is_partition or column.type.kind in ("timestamp", "date")):
        return tuple(Source(ColumnName(outside, name), False) for name in rows.time.columns)
    if is_partition:
        return (Source(ColumnName(outside, "name: day"), False),)
    # The vendor doesn't have it.
    return () if column.nullable else None


def _said(feed: Feed, column: Column) -> tuple[Source, ...] | None:
    """What a column of a feed's quotes is read from."""
    outside = f"{OUTSIDE}.{feed.name}.quotes"
    members = [member for member, name in feed.config.columns.items() if name == column.name]
    if members:
        return tuple(Source(ColumnName(outside, member), True) for member in members)
    if column.name == "symbol":
        return (Source(ColumnName(outside, "request: symbol"), True),)
    if column.made_from is not None:
        wanted = [member for member, name in feed.config.columns.items() if name in column.made_from]
        return tuple(Source(ColumnName(outside, member), False) for member in wanted)
    return () if column.name in PROVENANCE or column.nullable else None


def _captured(table: DescribedTable, contract: Contract, source: CapturedSource) -> Inputs | None:
    """The lineage of a captured table, or of its changes; None for another table."""
    for each in source.of.tables:
        outside = f"{OUTSIDE}.{source.name}.{each.name}"
        if table.name == each.changes:
            fields = {
                f"{_IMAGE}.{column.name}": (Source(ColumnName(outside, column.name), not column.pii),)
                for column in each.columns
            }
            whole = tuple(Source(ColumnName(outside, column.name), False) for column in each.columns)
            keys = tuple(Source(ColumnName(outside, name), False) for name in each.contract.key)
            made: Inputs = dict.fromkeys(contract.column_names, ())
            return {**made, _IMAGE: whole, "key": keys, **fields}
        if table.name == each.name:
            changes = f"{source.name}.{each.changes}"
            images: Inputs = {
                column.name: (Source(ColumnName(changes, f"{_IMAGE}.{column.name}"), True),) for column in each.columns
            }
            day = (Source(ColumnName(changes, "committed_at"), False),)
            return {**images, **dict.fromkeys(each.contract.partition_by, day)}
    return dict.fromkeys(contract.column_names, ()) if table.kind == "system" else None
