"""Foreign keys: a contract's column may refer to a column of another table, which must contain each of its values.

Like every check, this reads the stored tables. A NULL refers to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.errors import did_you_mean
from lakehouse.lake.contract import Contract, ContractError
from lakehouse.lake.sql import literal

if TYPE_CHECKING:
    from lakehouse.lake.lake import Lake
    from lakehouse.lake.table import LakeTable


@dataclass(frozen=True)
class Reference:
    """A column, and the column of another table that must contain its values."""

    column: str
    table: LakeTable
    to_column: str


def references_of(lake: Lake, table: str, contract: Contract) -> list[Reference]:
    """The references of a table (by its path, such as `xetra/bars`): to tables of its own source, unless they name
    another.

    Raises:
        ContractError: there is no such table or column, it is of another type, or the table is not stored.
    """
    found = []
    for column in contract.columns:
        if column.references is None:
            continue
        *source, name, to_column = column.references.split(".")
        path = f"{source[0] if source else table.rpartition('/')[0]}.{name}".lstrip(".")
        referred = lake.table(path)
        said = f"contract of {contract.table}: {column.name} refers to {column.references}, "
        if to_column not in referred.contract.column_names:
            known = referred.contract.column_names
            raise ContractError(f"{said}which {referred.name} doesn't have{did_you_mean(to_column, known)}")
        kind = referred.contract.column(to_column).type
        if kind != column.type:
            raise ContractError(f"{said}a {kind}, and is a {column.type}; give both the same type")
        if not referred.contract.partition_by:
            raise ContractError(f"{said}which is derived when it is asked for; refer to a stored table")
        found.append(Reference(column.name, referred, to_column))
    return found


def dangling_rows(lake: Lake, table: str, contract: Contract, rows: str) -> str:
    """A DuckDB query for the values in `rows` (a relation of the table) that the other table lacks: the column, the
    value as text, what it refers to, and the number of rows.

    Raises:
        ContractError: as for `references_of`.
    """
    queries = [
        f"""
        SELECT {literal(each.column)} AS "column", CAST("{each.column}" AS VARCHAR) AS value,
            {literal(f"{each.table.name}.{each.to_column}")} AS refers_to, count(*) AS row_count
        FROM {rows} AS own ANTI JOIN ({each.table.snapshot().select()}) AS referred
        ON own."{each.column}" = referred."{each.to_column}"
        WHERE own."{each.column}" IS NOT NULL GROUP BY ALL
        """
        for each in references_of(lake, table, contract)
    ]
    return " UNION ALL ".join(queries)
