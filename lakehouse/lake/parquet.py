"""How tables are written: the properties of their Parquet files, the version of the contract in the schema, and what
delta-rs needs to be kept from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable, WriterProperties

    from lakehouse.lake.contract import Contract

_CONTRACT_VERSION = "lakehouse.contract_version"
"""Under which a column's metadata in the table's schema says which version of the contract wrote the table."""


def stored_schema(contract: Contract) -> pa.Schema:
    """The contract's Arrow schema, whose first column says the contract's version.

    A property of the table can't be changed by the commit that changes the columns, and Delta looks a transaction up
    in the log's files each time it is asked for; the schema is at hand with the table.
    """
    schema = contract.arrow_schema
    return schema.set(0, schema.field(0).with_metadata({_CONTRACT_VERSION: str(contract.version)}))


def version_of(table: DeltaTable) -> int:
    """The version of the contract that wrote a table; 1 where the schema says none, as in lakes of earlier releases."""
    found = [field.metadata.get(_CONTRACT_VERSION) for field in table.schema().fields]
    return next((int(version) for version in found if version is not None), 1)


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
