"""How the Parquet files of tables are written, and what delta-rs needs to be kept from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import WriterProperties

    from lakehouse.lake.contract import Contract


def writer_properties(contract: Contract) -> WriterProperties:
    """How the Parquet files of a table are written.

    Delta keeps the least and greatest decimals of a file as floats, by which readers would leave out files that have
    the decimal asked for: decimals get no statistics. Those inside a struct can only be left out with all of it.
    """
    from deltalake import ColumnProperties, WriterProperties

    kept, default = None, None
    if any(column.type.has_decimals for column in contract.columns):
        default = ColumnProperties(statistics_enabled="NONE")
        exact = [column.name for column in contract.columns if column.type.is_simple and column.type.kind != "decimal"]
        kept = {name: ColumnProperties(statistics_enabled="PAGE") for name in exact}
    return WriterProperties(
        compression="ZSTD", compression_level=1, default_column_properties=default, column_properties=kept
    )


def unsliced(rows: pa.Table) -> pa.Table:
    """The rows, their lists and structs copied: of a struct inside a struct that is a slice of a longer array, delta-rs
    ends the whole process.
    """
    import pyarrow as pa

    for place, field in enumerate(rows.schema):
        if pa.types.is_nested(field.type):
            rows = rows.set_column(place, field, rows[place].take(pa.array(range(rows.num_rows), pa.int64())))
    return rows
