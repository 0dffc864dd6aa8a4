"""The lineage of what a run has written: as Dagster's column lineage, and as OpenLineage events where a place for them
is set. Neither fails a run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import dagster as dg

from lakehouse.api import Lake
from lakehouse.catalog import sources
from lakehouse.errors import LakehouseError
from lakehouse.governance.described import DescribedTable, described_tables
from lakehouse.governance.from_contracts import lineage_of_contracts
from lakehouse.governance.graph import whole_lineage
from lakehouse.governance.lineage import ColumnName, Lineage, Source
from lakehouse.governance.openlineage import tell
from lakehouse.ingest.noted import Kept
from lakehouse.lake.lake import MARTS_SCHEMA

_log = logging.getLogger(__name__)
_of_tables_described: Kept[tuple[Sequence[DescribedTable], Lineage]] = Kept()


def table_lineage(lake: Lake, path: str, run_id: str) -> dict[str, Any]:
    """The metadata of a table of the lake that a run has written, by its path; sends the events of it."""
    try:
        tables, lineage = _of_lake(lake)
        name = path.replace("/", ".")
        return _told(lake, tables, lineage, [name], run_id).get(name, {})
    except LakehouseError as error:
        _log.warning("The lineage of %s is left out: %s", path, error)
        return {}


def _of_lake(lake: Lake) -> tuple[Sequence[DescribedTable], Lineage]:
    """What every step asks for, of a lake that it has opened for itself; it changes with the descriptions alone."""
    return _of_tables_described.of(partial(_made, lake), *sources(lake.config).values())


def _made(lake: Lake) -> tuple[Sequence[DescribedTable], Lineage]:
    tables = described_tables(lake)
    return tables, lineage_of_contracts(tables)


def mart_lineage(lake: Lake, models: Iterable[str], run_id: str) -> Mapping[str, dict[str, Any]]:
    """The same of published models, by their names."""
    names = [f"{MARTS_SCHEMA}.{model}" for model in models]
    if not names:
        return {}
    try:
        tables = described_tables(lake)
        lineage = whole_lineage(tables, lake.config)
        found = _told(lake, tables, lineage, names, run_id)
        return {name.removeprefix(f"{MARTS_SCHEMA}."): metadata for name, metadata in found.items()}
    except LakehouseError as error:
        _log.warning("The lineage of the marts is left out: %s", error)
        return {}


def _told(
    lake: Lake,
    tables: Sequence[DescribedTable],
    lineage: Lineage,
    names: Sequence[str],
    run_id: str,
) -> dict[str, dict[str, Any]]:
    known = {table.sql_name: table for table in tables}
    found: dict[str, dict[str, Any]] = {}
    for name in (each for each in names if each in known):
        table = known[name]
        sources = {column.name: _of_tables(lineage, known, ColumnName(name, column.name)) for column in table.columns}
        if url := lake.config.openlineage_url:
            tell(url, table, sources, run_id, datetime.now(UTC))
        of_column = {
            column: [
                dg.TableColumnDep(asset_key=each.column.table.split("."), column_name=each.column.column)
                for each in made_from
                if each.column.table in known
            ]
            for column, made_from in sources.items()
        }
        deps = {column: made_from for column, made_from in of_column.items() if made_from}
        found[name] = {"dagster/column_lineage": dg.TableColumnLineage(deps_by_column=deps)} if deps else {}
    return found


def _of_tables(lineage: Lineage, known: Mapping[str, DescribedTable], column: ColumnName) -> list[Source]:
    """What a column is made from: columns of tables, and what is outside of the lake. A member of a captured row stands
    in the column of the whole row.
    """
    found = lineage.nearest(column, known)
    whole = [ColumnName(each.table, each.column.split(".")[0]) if each.table in known else each for each, _ in found]
    return [Source(each, is_copy) for each, (_, is_copy) in zip(whole, found, strict=True)]
