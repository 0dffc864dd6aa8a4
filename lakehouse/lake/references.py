"""Foreign keys: a contract's column may refer to a column of another table, which must contain each of its values.

Like every check, this reads the stored tables. A NULL refers to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    by_target: dict[tuple[str, str], list[Reference]] = {}
    for each in references_of(lake, table, contract):
        by_target.setdefault((each.table.name, each.to_column), []).append(each)
    return " UNION ALL ".join(f"({_dangling(found, rows)})" for found in by_target.values())


def _dangling(references: Sequence[Reference], rows: str) -> str:
    """The query for references to one column, which is read once: a long history may be behind it."""
    target, to_column = references[0].table, references[0].to_column
    own = " UNION ALL ".join(
        f"""
        SELECT {literal(each.column)} AS "column", "{each.column}" AS value, count(*) AS row_count
        FROM {rows} WHERE "{each.column}" IS NOT NULL GROUP BY ALL
        """
        for each in references
    )
    return f"""
        WITH own AS MATERIALIZED ({own})
        SELECT own."column", CAST(own.value AS VARCHAR) AS value, {literal(f"{target.name}.{to_column}")} AS refers_to,
            own.row_count
        FROM own ANTI JOIN (
            SELECT "{to_column}" AS value FROM ({target.snapshot().select()}) AS referred
            WHERE "{to_column}" IN (SELECT value FROM own)
        ) AS present ON own.value = present.value
        """
