"""Units, personal data and classifications of the marts' columns. They follow from the columns of the lake's tables:
contracts say them in one place.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from lakehouse.governance.described import LEVELS, DescribedColumn, DescribedTable, described_tables
from lakehouse.governance.graph import whole_lineage
from lakehouse.governance.lineage import ColumnName, Lineage
from lakehouse.governance.odcs import Document, odcs
from lakehouse.lake.lake import Lake
from lakehouse.settings import Settings
from lakehouse.warehouse.dbt import DbtFailed

_TEXTS = ("varchar", "string")
_log = logging.getLogger(__name__)


def catalogued(lake: Lake, config: Settings) -> list[DescribedTable]:
    """Every table, view and mart, with what the marts' columns inherit."""
    tables = described_tables(lake)
    try:
        return with_inherited(tables, whole_lineage(tables, config))
    except DbtFailed as error:
        _log.warning("Units and classifications of the marts are left out: %s", error)
        return tables


def exported(tables: Sequence[DescribedTable], lineage: Lineage) -> dict[str, Document]:
    """Contracts in a standard's form, by the tables' SQL names: with what marts inherit, and what each column is
    made from.
    """
    known = {table.sql_name for table in tables}

    def sources(table: str, column: str) -> list[str]:
        return [str(source.column) for source in lineage.nearest(ColumnName(table, column), known)]

    return {each.sql_name: odcs(each, partial(sources, each.sql_name)) for each in with_inherited(tables, lineage)}


def with_inherited(tables: Sequence[DescribedTable], lineage: Lineage) -> list[DescribedTable]:
    """The tables with what the marts' columns inherit: of a column that is taken over, its unit, its classification and
    that it is personal, unless dbt's YAML says `pii: false`; of one from which a text is made, its classification.
    """
    known = {table.sql_name: table for table in tables if table.contract is not None}

    def inherited(table: DescribedTable) -> DescribedTable:
        if table.contract is not None:
            return table
        return replace(table, columns=tuple(_of_column(table, column, lineage, known) for column in table.columns))

    return [inherited(table) for table in tables]


def _of_column(
    table: DescribedTable, column: DescribedColumn, lineage: Lineage, known: Mapping[str, DescribedTable]
) -> DescribedColumn:
    name = ColumnName(table.sql_name, column.name)
    sources = [
        (known[source.table].column(source.column), is_copy)
        for source, is_copy in lineage.nearest(name, known)
        if not source.is_outside
    ]
    copied = [source for source, is_copy in sources if is_copy]
    telling = [source for source, is_copy in sources if is_copy or column.type.lower() in _TEXTS]
    units = {source.unit for source in copied}
    levels = [column.classification, *(source.classification for source in telling)]
    return replace(
        column,
        unit=column.unit or (units.pop() if len(units) == 1 else None),
        pii=column.pii or (not column.is_marked and any(source.pii for source in copied)),
        classification=max(levels, key=LEVELS.index),
    )
