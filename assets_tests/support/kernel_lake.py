"""A lake of the kernel's alone: sources that a test makes itself, without a domain, a YAML or settings."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import yaml

from lakehouse.derive.conservation import conservation
from lakehouse.derive.source import Source
from lakehouse.ingest.entered import entered_rows
from lakehouse.lake.contract import Contract, shared_contracts
from lakehouse.lake.lake import Lake
from lakehouse.lake.registry import Entry, Registry

PROVENANCE = """
  - {name: object, type: string, description: Object.}
  - {name: object_version, type: string, description: Version.}
  - {name: row_number, type: bigint, description: Row.}
  - {name: published_at, type: timestamp, description: When it was published.}
  - {name: ingested_at, type: timestamp, description: When the lake came to know it.}
"""


def contract(text: str) -> Contract:
    """A contract by its YAML."""
    return Contract.model_validate(yaml.safe_load(text) | {"domain": "test"})


def registry_of(source: Source) -> Registry:
    """The tables of a source, and those of all."""

    def entry(made: Contract, **more: Any) -> Entry:
        return Entry(made, rows=entered_rows if made.by_ledger else None, **more)

    tables = {name: entry(made) for name, made in source.contracts.items()}
    for name, query in source.views.items():
        tables[name] = entry(source.contract(name), query=partial(_queried, query, source))
    for table in source.tables:
        as_of = partial(_queried, table.as_of, source)
        tables[table.name] = entry(source.contract(table.name), as_of=as_of)
    shared = {name: entry(made) for name, made in shared_contracts().items()}
    shared["conservation"] = Entry(shared_contracts()["conservation"], query=partial(conservation, [source]))
    return Registry(shared=shared, sources={source.name: (source.kind, tables)})


def lake_at(folder: Path, source: Source, **options: Any) -> Lake:
    """The lake in a folder, which knows one source."""
    return Lake(str(folder), registry_of(source), **options)


def _queried(query: Any, source: Source, lake: Lake, connection: Any) -> str:
    return str(query(lake, connection, source))


def rows_of(lake: Lake, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    """A table's rows in their order, as of the lake's moment."""
    with lake.connect() as connection:
        query = lake.select(table, connection)
        return connection.execute(f"SELECT {columns} FROM ({query}) ORDER BY ALL").fetchall()
