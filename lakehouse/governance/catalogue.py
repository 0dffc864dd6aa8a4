"""The catalogue as tables of the lake: `lake.catalog_tables` and `lake.catalog_columns`.

Both are views, computed when they are read from the contracts, the dbt project and what is stored: no run has to write
them, and they can't be out of date.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.governance.described import DescribedTable
from lakehouse.governance.figures import Figures, figures
from lakehouse.governance.inherited import catalogued
from lakehouse.lake.contract import Contract, read_contracts
from lakehouse.lake.lake import Lake
from lakehouse.lake.registry import Entry
from lakehouse.lake.sql import literal
from lakehouse.settings import Settings

if TYPE_CHECKING:
    import duckdb

TABLES, COLUMNS = "catalog_tables", "catalog_columns"
Row = Mapping[str, Any]


def catalogue_entries(config: Settings) -> dict[str, Entry[Lake]]:
    """The catalogue's tables of an installation, for the schema `lake`."""
    contracts = read_contracts(Path(__file__).parent)
    return {
        TABLES: Entry(contracts[TABLES], query=_view(contracts[TABLES], partial(_tables, config))),
        COLUMNS: Entry(contracts[COLUMNS], query=_view(contracts[COLUMNS], partial(_columns, config))),
    }


def table_rows(tables: Iterable[DescribedTable], stored: Mapping[str, Figures]) -> list[Row]:
    """The rows of `lake.catalog_tables`."""
    return [_table_row(table, stored.get(table.sql_name, Figures())) for table in tables]


def _table_row(table: DescribedTable, stored: Figures) -> Row:
    return {
        "schema_name": table.schema,
        "table_name": table.name,
        "kind": table.kind,
        "domain": table.domain,
        "description": table.description,
        "owner": table.owner,
        "classification": table.classification,
        "key": list(table.key),
        "partition_by": list(table.partition_by),
        "version": table.contract.version if table.contract else None,
        "freshness": table.freshness,
        "updated_at": stored.updated_at,
        "rows": stored.rows,
        "bytes": stored.bytes,
    }


def column_rows(tables: Iterable[DescribedTable]) -> list[Row]:
    """The rows of `lake.catalog_columns`."""
    return [
        {
            "schema_name": table.schema,
            "table_name": table.name,
            "column_name": column.name,
            "position": position,
            "type": column.type,
            "description": column.description,
            "unit": column.unit,
            "nullable": column.nullable,
            "is_key": column.is_key,
            "references": column.references,
            "format": column.format,
            "pii": column.pii,
            "classification": column.classification,
        }
        for table in tables
        for position, column in enumerate(table.columns, 1)
    ]


def _tables(config: Settings, lake: Lake) -> list[Row]:
    tables = catalogued(lake, config)
    return table_rows(tables, figures(lake, tables))


def _columns(config: Settings, lake: Lake) -> list[Row]:
    return column_rows(catalogued(lake, config))


def _view(contract: Contract, rows_of: Callable[[Lake], list[Row]]) -> Callable[[Lake, duckdb.DuckDBPyConnection], str]:
    def query(lake: Lake, connection: duckdb.DuckDBPyConnection) -> str:
        # As text in the query: a frame that is registered is seen by its own connection alone.
        structure = json.dumps([{column.name: column.type.duckdb for column in contract.columns}])
        rows = json.dumps(rows_of(lake), default=str)
        return f"SELECT each.* FROM (SELECT unnest(from_json({literal(rows)}, {literal(structure)})) AS each)"

    return query
