"""Text rows become typed rows: every column gets the type that its table's contract names, and what can't be
typed becomes NULL, which the contract then refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.ingest.dataset import Bars, Product, RowTime
from lakehouse.ingest.from_text import from_text, in_years
from lakehouse.lake.contract import contract_of
from lakehouse.lake.types import ColumnType

if TYPE_CHECKING:
    import polars as pl

PROVENANCE = frozenset({"object", "object_version", "row_number", "published_at", "ingested_at"})
"""Columns that say where a row comes from; they are not the product's but the load's."""
_OF_TIME = frozenset({"interval", "start_at", "end_at", "session", "year"})
_EPOCH_UNITS = ((10**11, 1_000_000), (10**14, 1_000), (10**17, 1))
"""Epoch values below the first number are in a unit of the second number of microseconds: the units of one
moment lie a factor of 1,000 apart, so that any time from 1973 to 5138 tells its unit.
"""


def typed(text: pl.DataFrame, product: Product, time_zone: str) -> pl.DataFrame:
    """Types the text columns as the product's raw table wants them; a text that can't be typed becomes NULL.

    Args:
        text: the object's columns and the groups of its name (as `named:<group>`), all strings; other columns
            pass through.
        time_zone: the venue's, on whose clock a row falls on a day.

    Returns: the columns that passed through, those of the raw table that the rows themselves say (for bars with
        start_at and end_at in UTC, microseconds), `day` (the date on the venue's clock), and for each column of
        `untyped_columns` a boolean `untyped_<column>`: whether it is NULL though there was a text.
    """
    import polars as pl

    contract = contract_of(product.raw_table)
    passed = [
        column for column in text.columns if column not in product.object_columns and not column.startswith("named:")
    ]
    columns = [column for column in contract.columns if column.name not in PROVENANCE | _OF_TIME]
    if isinstance(product, Bars):
        label = _labelled(product.time)
        start = label if product.time.label == "start" else label - product.interval_length
        day = start.dt.convert_time_zone(time_zone).dt.date()
        times = [
            pl.lit(product.interval).alias("interval"),
            start.alias("start_at"),
            (start + product.interval_length).alias("end_at"),
            day.alias("day"),
        ]
    else:
        times = [in_years(_joined(product.time).str.to_date(product.time.format, strict=False)).alias("day")]
    return text.select(
        *[pl.col(column) for column in passed],
        *[_value(product, column.name, column.type) for column in columns],
        *times,
        *[
            (
                _received(product, name).is_not_null() & _value(product, name, contract.column(name).type).is_null()
            ).alias(f"untyped_{name}")
            for name in untyped_columns(product)
        ],
    )


def untyped_columns(product: Product) -> list[str]:
    """The optional columns, other than of text, that the source fills: there a NULL may mean no value or a text that
    isn't one of the type, so `typed` says which.
    """
    return [
        column.name
        for column in contract_of(product.raw_table).columns
        if column.name in product.columns and column.nullable and column.type.kind not in ("string", "json")
    ]


def _received(product: Product, name: str) -> pl.Expr:
    import polars as pl

    if name in product.constants:
        return pl.lit(product.constants[name])
    if name in product.columns:
        return pl.col(product.columns[name])
    if name in product.named:
        return pl.col(f"named:{product.named[name]}")
    return pl.lit(None, pl.String)


def _value(product: Product, name: str, kind: ColumnType) -> pl.Expr:
    import polars as pl

    source = _received(product, name)
    if name not in {**product.constants, **product.columns, **product.named}:
        return pl.lit(None, kind.polars).alias(name)
    if kind.kind not in ("bigint", "decimal", "double"):
        return from_text(kind, source).alias(name)
    if product.decimal == ",":
        # A point is no decimal sign then: 1.234 would be a thousand and more, so it is not typed rather
        # than guessed.
        source = pl.when(~source.str.contains(".", literal=True)).then(source.str.replace(",", ".", literal=True))
    if kind.kind != "bigint":
        return from_text(kind, source).alias(name)
    as_integer = source.cast(pl.Int64, strict=False)
    as_number = source.cast(pl.Float64, strict=False)
    if isinstance(product, Bars) and product.volume_unit != 1 and name == "volume":
        # The texts are decimal and the units powers of ten: what is next to a whole number is meant to be one.
        counted = as_number / product.volume_unit
        near = (counted - counted.round()).abs() <= counted.abs() * 1e-12 + 1e-3
        return pl.when(near).then(counted.round().cast(pl.Int64, strict=False)).alias(name)
    # Some vendors write whole quantities as 1200.0; a quantity with a fraction stays untyped.
    whole = pl.when(as_number == as_number.floor()).then(as_number.cast(pl.Int64, strict=False))
    return pl.coalesce(as_integer, whole).alias(name)


def _joined(time: RowTime) -> pl.Expr:
    import polars as pl

    return pl.concat_str([pl.col(column) for column in time.columns], separator=" ")


def _labelled(time: RowTime) -> pl.Expr:
    """The moment that a row is labelled with, UTC in microseconds."""
    import polars as pl

    if time.format != "epoch":
        local = in_years(_joined(time).str.to_datetime(time.format, time_unit="us", strict=False))
        placed = local.dt.replace_time_zone(time.zone, ambiguous="null", non_existent="null")
        return placed.dt.convert_time_zone("UTC")
    count = _joined(time).cast(pl.Int64, strict=False)
    # The least 64-bit number has no absolute value.
    count = pl.when(count > -(2**63)).then(count)
    microseconds = count // 1_000
    for below, unit in reversed(_EPOCH_UNITS):
        microseconds = pl.when(count.abs() < below).then(count * unit).otherwise(microseconds)
    return in_years(microseconds.cast(pl.Datetime("us"))).dt.replace_time_zone("UTC")
