"""Lineage of rows: from rows of a mart or a table to the raw revisions, objects and row numbers that they come from.

Tables don't store which rows made a row. It follows from the columns that are taken over: the rows of a table that a
row is made from have its key, or their own key is in the row. Where only a part of the key is taken over, such as the
item of a version, more rows are found than made the row; these are marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.governance.described import DescribedTable
from lakehouse.governance.lineage import ColumnName, Lineage
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import literal

if TYPE_CHECKING:
    import duckdb

_OBJECT_ROW = ("object", "object_version", "row_number")
_OF_SOURCE = "source"
"""The column of marts with the source of a row: the SQL schema of the tables that it comes from."""
RAW_COLUMNS = (*_OBJECT_ROW, "lsn", "seq", "published_at", "ingested_at")
"""What identifies a raw row: by its object, or by its place in a database's log."""


@dataclass(frozen=True)
class Rows:
    """Rows of a table.

    Attributes:
        level: how many tables are between them and the rows that were asked about.
        is_exact: each of them belongs to the rows that were asked about; otherwise some may not.
        columns, values: the rows, as texts.
        is_raw: nothing of the lake is before them.
        counted: of raw rows, those that won, by object, version and row number; None where that isn't known.
    """

    table: str
    level: int
    is_exact: bool
    columns: Sequence[str]
    values: Sequence[Sequence[str | None]]
    is_raw: bool = False
    counted: frozenset[tuple[str | None, ...]] | None = None

    def raw_rows(self) -> Iterator[dict[str, Any]]:
        """What identifies each row, and whether it counts."""
        for row in self.values:
            said = dict(zip(self.columns, row, strict=True))
            place = tuple(said.get(name) for name in _OBJECT_ROW)
            counts = None if self.counted is None else place in self.counted
            yield {"table": self.table, **{name: said.get(name) for name in RAW_COLUMNS}, "counts": counts}


@dataclass(frozen=True)
class _Step:
    """How rows of a table lead to those of another: (its column, the other's column)."""

    table: str
    on: tuple[tuple[str, str], ...]
    is_exact: bool


def rows_behind(
    lake: Lake, lineage: Lineage, tables: Sequence[DescribedTable], table: DescribedTable, where: str, limit: int
) -> list[Rows]:
    """The rows of a table that fulfil `where`, at most `limit`, and the rows behind them, table by table.

    Raises:
        duckdb.Error: `where` is no condition on the table.
    """
    by_name = {each.sql_name: each for each in tables}
    first = _read(lake, f"SELECT * FROM {_quoted(table.sql_name)} WHERE {where} LIMIT {limit}")
    found = [Rows(table.sql_name, 0, True, *first, is_raw=_is_raw(lineage, table))]
    for rows in found:
        if not rows.values:
            continue
        known = {each.table for each in found}
        for step in _steps(lineage, by_name, by_name[rows.table], _sources_in(rows)):
            if step.table in known:
                continue
            columns, values = _read(lake, _query(step, rows))
            if values:
                behind = by_name[step.table]
                exact = rows.is_exact and step.is_exact
                raw = _is_raw(lineage, behind)
                found.append(
                    Rows(step.table, rows.level + 1, exact, columns, values, raw, _places(rows) if raw else None)
                )
    return found


def _is_raw(lineage: Lineage, table: DescribedTable) -> bool:
    columns = [ColumnName(table.sql_name, column.name) for column in table.columns]
    return any(source.is_outside for column in columns for source in lineage.up(column))


def _sources_in(rows: Rows) -> set[str | None] | None:
    if _OF_SOURCE not in rows.columns:
        return None
    place = list(rows.columns).index(_OF_SOURCE)
    return {row[place] for row in rows.values}


def _places(rows: Rows) -> frozenset[tuple[str | None, ...]] | None:
    """Object, version and row number of each row; None where the table hasn't all of them."""
    if not set(_OBJECT_ROW) <= set(rows.columns):
        return None
    at = [list(rows.columns).index(name) for name in _OBJECT_ROW]
    return frozenset(tuple(row[place] for place in at) for row in rows.values)


def _steps(
    lineage: Lineage, by_name: Mapping[str, DescribedTable], table: DescribedTable, of_sources: set[str | None] | None
) -> Iterator[_Step]:
    """How rows of a table lead to those of the tables before it."""
    names = [column.name for column in table.columns]
    copies: dict[str, dict[str, str]] = {}
    made: dict[str, set[str]] = {}
    for column in names:
        for source, is_copy in lineage.nearest(ColumnName(table.sql_name, column), by_name):
            if source.is_outside:
                continue
            made.setdefault(source.table, set()).add(column)
            if is_copy:
                copies.setdefault(source.table, {}).setdefault(column, source.column)
    key = [column for column in table.key if lineage.up(ColumnName(table.sql_name, column)) and column != _OF_SOURCE]
    for before in made:
        if of_sources is not None and _is_of_another(by_name[before], of_sources):
            continue
        taken = copies.get(before, {})
        if step := _step(by_name[before], key, taken, names):
            yield step


def _is_of_another(table: DescribedTable, of_sources: set[str | None]) -> bool:
    """Whether a table belongs to none of some sources. A view over all has their names in its own column."""
    is_of_all = any(column.name == _OF_SOURCE for column in table.columns)
    return table.contract is not None and not is_of_all and table.schema not in of_sources


def _step(before: DescribedTable, key: Sequence[str], taken: Mapping[str, str], names: Sequence[str]) -> _Step | None:
    if key and all(column in taken for column in key):
        return _Step(before.sql_name, tuple((column, taken[column]) for column in key), True)
    by_copy = {other: column for column, other in taken.items()}
    own = {column: by_copy.get(column) or (column if column in names else None) for column in before.key}
    if own and all(own.values()) and taken:
        return _Step(before.sql_name, tuple((str(column), other) for other, column in own.items()), True)
    of_key = [column for column in key if column in taken]
    if of_key:
        return _Step(before.sql_name, tuple((column, taken[column]) for column in of_key), False)
    # The winners of raw rows whose key is made from them: all that is taken over.
    return _Step(before.sql_name, tuple(taken.items()), True) if taken else None


def _query(step: _Step, rows: Rows) -> str:
    """The rows of the next table, by the values of those before."""
    at = [list(rows.columns).index(column) for column, _ in step.on]
    given = sorted({tuple(row[place] for place in at) for row in rows.values}, key=str)
    names = [f"g{number}" for number in range(len(at))]
    values = ", ".join(f"({', '.join('NULL' if value is None else literal(value) for value in row)})" for row in given)
    conditions = " AND ".join(
        f"{_text_of(column)} IS NOT DISTINCT FROM given.{name}"
        for name, (_, column) in zip(names, step.on, strict=True)
    )
    return (
        f"SELECT * FROM {_quoted(step.table)} AS found "
        f"SEMI JOIN (VALUES {values}) AS given({', '.join(names)}) ON {conditions}"
    )


def _text_of(column: str) -> str:
    image, _, member = column.partition(".")
    if member:
        return f'json_extract_string(found."{image}", {literal(f"$.{member}")})'
    return f'found."{column}"::VARCHAR'


def _quoted(table: str) -> str:
    return ".".join(f'"{part}"' for part in table.split("."))


def _read(lake: Lake, query: str) -> tuple[list[str], list[tuple[str | None, ...]]]:
    relation = lake.sql(f"SELECT COLUMNS(*)::VARCHAR FROM ({query})")
    assert relation is not None
    return list(relation.columns), relation.fetchall()


def raw_relation(found: Iterable[Rows]) -> duckdb.DuckDBPyRelation:
    """The raw rows as a relation: table, object, version, row number or place in a log, and whether each counts."""
    import duckdb
    import polars as pl

    schema = {"table": pl.String, **dict.fromkeys(RAW_COLUMNS, pl.String), "counts": pl.Boolean}
    rows = [row for each in found if each.is_raw for row in each.raw_rows()]
    numbers = [pl.col(name).cast(pl.Int64) for name in ("row_number", "lsn", "seq")]
    return duckdb.from_arrow(pl.DataFrame(rows, schema=schema).with_columns(numbers).to_arrow())
