"""Every table, view and mart with what its contract says of it, in one form. `figures` adds what is stored."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from lakehouse import catalog
from lakehouse.catalog import kinds, sources
from lakehouse.derive.captured import CapturedSource
from lakehouse.derive.source import Source
from lakehouse.errors import LakehouseError, did_you_mean
from lakehouse.governance.models import Model, ModelColumn, models
from lakehouse.lake.contract import Classification, Column, Contract
from lakehouse.lake.lake import MARTS_SCHEMA, Lake
from lakehouse.lake.registry import SHARED_SCHEMA, Entry
from lakehouse.warehouse.parts import parts

LEVELS = get_args(Classification)
"""From open to strict."""
DEFAULT_LEVEL: Classification = "internal"
_OF_PERSONS: Classification = "confidential"


class UnknownTable(LakehouseError, ValueError):
    """There is no table or column of that name; the message names similar ones."""


@dataclass(frozen=True)
class DescribedColumn:
    """A column, as its contract or its model describes it.

    Attributes:
        pii: whether it is personal.
        is_marked: whether it says so itself: then it inherits nothing of it.
    """

    name: str
    type: str
    description: str
    nullable: bool
    is_key: bool
    classification: Classification
    unit: str | None = None
    references: str | None = None
    format: str | None = None
    pii: bool = False
    is_marked: bool = False


@dataclass(frozen=True)
class DescribedTable:
    """A table, a view or a mart.

    Attributes:
        kind: raw, derived, captured, view, mart or system.
        rules: (name, predicate or None, reason or description) of each rule.
        contract: None for a mart.
    """

    schema: str
    name: str
    kind: str
    domain: str | None
    description: str
    owner: str
    key: tuple[str, ...]
    partition_by: tuple[str, ...]
    freshness: str
    columns: tuple[DescribedColumn, ...]
    rules: tuple[tuple[str, str | None, str], ...] = ()
    contract: Contract | None = None

    @property
    def sql_name(self) -> str:
        """Its name in SQL."""
        return f"{self.schema}.{self.name}"

    @property
    def path(self) -> str:
        """Its path in the lake."""
        return self.name if self.schema == SHARED_SCHEMA else f"{self.schema}/{self.name}"

    @property
    def classification(self) -> Classification:
        """The strictest classification of its columns."""
        return max((column.classification for column in self.columns), key=LEVELS.index, default=DEFAULT_LEVEL)

    def column(self, name: str) -> DescribedColumn:
        """The column of that name.

        Raises:
            UnknownTable: it has none.
        """
        names = [column.name for column in self.columns]
        if name not in names:
            raise UnknownTable(f"{self.sql_name} has no column {name}; it has {', '.join(names)}")
        return self.columns[names.index(name)]


def described_tables(lake: Lake) -> list[DescribedTable]:
    """Every table that the installation describes or the lake has, and every mart, by their SQL names."""
    registry, known = lake.registry, sources()
    entries: dict[tuple[str, str], Entry[Lake]] = {
        (SHARED_SCHEMA, name): each for name, each in registry.shared.items()
    }
    for schema, tables in registry.domains.items():
        entries |= {(schema, name): entry for name, entry in tables.items()}
    for schema, (_, tables) in registry.sources.items():
        entries |= {(schema, name): entry for name, entry in tables.items()}
    for schema, name in lake.tables():
        path = name if schema == SHARED_SCHEMA else f"{schema}/{name}"
        entries.setdefault((schema, name), registry.entry(path))
    found = [_of_lake(schema, name, entry, known) for (schema, name), entry in entries.items()]
    return sorted([*found, *_marts(known)], key=lambda table: (table.schema, table.name))


def table_named(tables: Sequence[DescribedTable], name: str) -> DescribedTable:
    """The table of an SQL name; the schema may be left out where only one has such a table.

    Raises:
        UnknownTable: it doesn't exist, or several have that name.
    """
    wanted = name.lower().replace("/", ".")
    fitting = [table for table in tables if wanted in (table.sql_name, table.name)]
    exact = [table for table in fitting if table.sql_name == wanted]
    if len(exact or fitting) == 1:
        return (exact or fitting)[0]
    if fitting:
        raise UnknownTable(f"several tables are called {name}: {', '.join(table.sql_name for table in fitting)}")
    raise UnknownTable(f"no table is called {name}{did_you_mean(wanted, [table.sql_name for table in tables])}")


def containing(tables: Iterable[DescribedTable], words: str) -> Iterator[DescribedTable]:
    """The tables whose name, description, owner, or a column of which contains all words, whatever their case."""
    wanted = words.lower().split()
    for table in tables:
        columns = (f"{column.name} {column.description} {column.unit or ''}" for column in table.columns)
        text = " ".join([table.sql_name, table.kind, table.domain or "", table.description, table.owner, *columns])
        if all(word in text.lower() for word in wanted):
            yield table


def _of_lake(schema: str, name: str, entry: Entry[Lake], known: Mapping[str, Source]) -> DescribedTable:
    contract, source, domain_of = entry.contract, known.get(schema), catalog.domains_by_kind()
    of_domain = [each for each in known.values() if contract.domain and domain_of[each.kind] == contract.domain]
    owners = source.owners if source else tuple(owner for each in of_domain for owner in each.owners)
    is_of_all = source is None and schema in {SHARED_SCHEMA, *(domain.name for domain in catalog.DOMAINS)}
    return DescribedTable(
        schema=schema,
        name=name,
        kind=_kind(name, entry, source, contract),
        domain=contract.domain or None,
        description=" ".join(contract.description.split()),
        owner=contract.owner or ", ".join(dict.fromkeys(owners)),
        key=contract.key,
        partition_by=contract.partition_by,
        freshness=source.freshness if source else "with each run of a source" if is_of_all else "with each run",
        columns=tuple(_column(column, contract) for column in contract.columns),
        rules=tuple((name, holds, reason) for name, (holds, reason) in contract.predicates.items()),
        contract=contract,
    )


def _kind(name: str, entry: Entry[Lake], source: Source | None, contract: Contract) -> str:
    if entry.query is not None:
        return "view"
    if source is None:
        of_domains = contract.domain in {domain.name for domain in catalog.DOMAINS}
        return "system" if not of_domains else "raw" if contract.by_ledger else "derived"
    captured = {table.name for table in source.of.tables} if isinstance(source, CapturedSource) else None
    if name in (captured or ()):
        return "captured"
    if name in {table.name for table in source.tables}:
        return "derived"
    return "raw" if captured is None else "system"


def _column(column: Column, contract: Contract) -> DescribedColumn:
    default = _OF_PERSONS if column.is_personal else DEFAULT_LEVEL
    return DescribedColumn(
        name=column.name,
        type=str(column.type),
        description=" ".join(column.description.split()),
        nullable=column.nullable,
        is_key=column.name in contract.key,
        classification=column.classification or contract.classification or default,
        unit=column.unit,
        references=column.references,
        format=column.format,
        pii=column.is_personal,
    )


def _marts(known: Mapping[str, Source]) -> Iterator[DescribedTable]:
    for model in models().values():
        kind = next(kind for kind in kinds().values() if kind.marts and kind.marts[0] == model.part)
        owners = dict.fromkeys(owner for each in known.values() for owner in each.owners if each.kind == kind.name)
        yield _mart(model, ", ".join(owners), catalog.domains_by_kind()[kind.name], _personal_names(model.part))


def _personal_names(part: str) -> set[str]:
    """The names of personal columns in the tables that a part of the marts is made from."""
    made_from = next(each.kinds for each in parts() if each.name == part)
    contracts = [contract for name in made_from for contract in kinds()[name].contracts().values()]
    return {column.name for contract in contracts for column in contract.columns if column.is_personal}


def _mart(model: Model, owner: str, domain: str, personal: Collection[str]) -> DescribedTable:
    def described(column: ModelColumn) -> DescribedColumn:
        pii = bool(column.meta.get("pii", column.name in personal))
        return DescribedColumn(
            name=column.name,
            type=column.type,
            description=column.description,
            nullable=column.nullable,
            is_key=column.name in model.key,
            classification=_OF_PERSONS if pii else DEFAULT_LEVEL,
            pii=pii,
            is_marked="pii" in column.meta,
        )

    return DescribedTable(
        schema=MARTS_SCHEMA,
        name=model.name,
        kind="mart",
        domain=domain,
        description=model.description,
        owner=owner,
        key=model.key,
        partition_by=(),
        freshness="published when its inputs change and all tests pass",
        columns=tuple(described(column) for column in model.columns),
        rules=tuple((name, None, description) for name, description in model.rules),
    )
