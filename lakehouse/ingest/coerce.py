"""Converts text rows to typed rows: every column gets the type in its table's contract; a text that can't be converted
becomes NULL, which the contract then rejects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.ingest.dataset import Dataset
from lakehouse.ingest.from_text import from_text, from_text_in_unit
from lakehouse.ingest.row_format import RowFormat
from lakehouse.lake.types import ColumnType

if TYPE_CHECKING:
    import polars as pl

_ISO = "%Y-%m-%d"
PROVENANCE = frozenset({"object", "object_version", "row_number", "published_at", "ingested_at"})
"""Columns with a row's origin, filled by the load and not by the vendor."""


def typed(text: pl.DataFrame, dataset: Dataset) -> pl.DataFrame:
    """Types the text columns as the dataset's raw table wants them; a text that can't be typed becomes NULL.

    Args:
        text: the object's columns and the groups of its name (as `named:<group>`), all strings; other columns
            pass through.

    Returns: the columns that passed through, those of the raw table that the rows themselves say, what
        `Dataset.times` makes of their time, and for each column of `untyped_columns` a boolean `untyped_<column>`:
        whether it is NULL though there was a text.
    """
    import polars as pl

    contract, times = dataset.contract, dataset.times(text)
    passed = [
        column
        for column in text.columns
        if column not in dataset.rows.object_columns and not column.startswith("named:")
    ]
    made = {*times.columns, dataset.partition_column, dataset.part.column}
    columns = [column for column in contract.columns if column.name not in PROVENANCE | made]
    return text.select(
        *[pl.col(column) for column in passed],
        *[_value(dataset, column.name, column.type) for column in columns],
        *times.get_columns(),
        *[
            (
                received(dataset.rows, name).is_not_null() & _value(dataset, name, contract.column(name).type).is_null()
            ).alias(f"untyped_{name}")
            for name in untyped_columns(dataset)
        ],
    )


def untyped_columns(dataset: Dataset) -> list[str]:
    """The optional non-text columns that the source fills: a NULL may mean a missing value or a text that isn't of the
    type, so `typed` distinguishes the two.
    """
    return [
        column.name
        for column in dataset.contract.columns
        if column.name in dataset.rows.columns and column.nullable and column.type.kind not in ("string", "json")
    ]


def received(rows: RowFormat, name: str) -> pl.Expr:
    """The text that a row has for a column of the raw table."""
    import polars as pl

    if name in rows.constants:
        return pl.lit(rows.constants[name])
    if name in rows.columns:
        return pl.col(rows.columns[name])
    if name in rows.named:
        return pl.col(f"named:{rows.named[name]}")
    return pl.lit(None, pl.String)


def text_of(rows: RowFormat, name: str) -> pl.Expr:
    """The text that a row has for a column of the raw table, as the format changes it."""
    source = received(rows, name)
    if name in rows.trimmed:
        source = source.str.strip_chars(" \t")
    if name in rows.upper:
        source = source.str.to_uppercase()
    if name in rows.identifiers:
        source = source.str.replace(r"^([0-9]+)\.0+$", "${1}")
    if name in rows.values:
        source = source.replace(rows.values[name])
    return source


def _value(dataset: Dataset, name: str, kind: ColumnType) -> pl.Expr:
    import polars as pl

    rows = dataset.rows
    if name not in {**rows.constants, **rows.columns, **rows.named}:
        return pl.lit(None, kind.polars).alias(name)
    source = text_of(rows, name)
    if kind.kind not in ("bigint", "decimal", "double"):
        return from_text(kind, source, rows.date_format if name in rows.columns else _ISO).alias(name)
    if dataset.rows.decimal == ",":
        # A point is not a decimal sign then: 1.234 would be a thousand and more, so it is not typed rather
        # than guessed.
        source = pl.when(~source.str.contains(".", literal=True)).then(source.str.replace(",", ".", literal=True))
    if name in dataset.units:
        return from_text_in_unit(source, dataset.units[name]).alias(name)
    if kind.kind != "bigint":
        return from_text(kind, source).alias(name)
    as_integer = source.cast(pl.Int64, strict=False)
    as_number = source.cast(pl.Float64, strict=False)
    # Some vendors write whole quantities as 1200.0; a quantity with a fraction stays untyped.
    whole = pl.when(as_number == as_number.floor()).then(as_number.cast(pl.Int64, strict=False))
    return pl.coalesce(as_integer, whole).alias(name)
