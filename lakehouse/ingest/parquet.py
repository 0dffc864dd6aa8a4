"""Parquet objects: their columns become text, block by block, as those of other formats are.

Arrow reads, since it answers damage with an error where Polars may end the process. What is missing may be written as
NaN, as pandas does, and is NULL.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from lakehouse.ingest.row_format import RowFormat
from lakehouse.ingest.signatures import HEAD_BYTES, not_parquet
from lakehouse.ingest.times import WITH_OFFSET
from lakehouse.ingest.unpacked import BLOCK_LINES, LONGEST_LINE

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

_FRAME_BYTES = 32_000_000


def damages() -> tuple[type[Exception], ...]:
    """The errors of damaged files; which one depends on the place of the damage."""
    import polars as pl
    import pyarrow as pa

    return (
        pa.ArrowException,
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
        ValueError,
        OSError,
        MemoryError,
    )


def opened(name: str, file: IO[bytes], form: RowFormat) -> pq.ParquetFile:
    """The file, with its footer read.

    Raises:
        CorruptObject: it is no Parquet file, or damaged.
    """
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        # Text that repeats is kept once, so that it can't unpack to any length before it is looked at.
        texts = [column.name for column in parquet.schema_arrow if _is_text(column.type)]
        return pq.ParquetFile(file, metadata=parquet.metadata, read_dictionary=texts, page_checksum_verification=True)
    except damages() as error:
        file.seek(0)
        raise not_parquet(name, file.read(HEAD_BYTES), form, error) from error


def frames(parquet: pq.ParquetFile, form: RowFormat) -> Iterator[pl.DataFrame]:
    """The rows as text, as many at once as fit in memory."""
    import polars as pl
    import pyarrow as pa

    for batch in parquet.iter_batches(BLOCK_LINES, columns=form.object_columns):
        if batch.num_rows:
            chosen = pa.Table.from_batches([batch]).select(form.object_columns)
            chosen.validate(full=True)
            chosen = _with_plain_decimals(chosen)
            rows = max(1, _FRAME_BYTES // max(1, _longest_row(chosen)))
            for start in range(0, chosen.num_rows, rows):
                frame = pl.DataFrame(pl.from_arrow(chosen.slice(start, rows)))
                text = frame.with_columns(_times(frame, form)).cast(pl.String)
                missing = ["", *form.nulls]
                yield text.with_columns(
                    pl.when(~pl.col(name).is_in([*missing, "NaN"] if kind.is_float() else missing)).then(pl.col(name))
                    for name, kind in frame.schema.items()
                )


def _times(frame: pl.DataFrame, form: RowFormat) -> list[pl.Expr]:
    """A date or timestamp that is a row's time, in the form and zone that the YAML says. One that doesn't fit the form
    stays as it is, so that nothing of it is dropped unnoticed.
    """
    import polars as pl

    if form.time is None or len(form.time.columns) != 1:
        return []
    name, time = form.time.columns[0], form.time
    kind = frame.schema[name]
    if kind == pl.Date:
        moment = pl.col(name).cast(pl.Datetime("us"))
    elif isinstance(kind, pl.Datetime):
        moment = pl.col(name)
    else:
        return []
    if time.format == "epoch":
        # Whole seconds where possible: the unit of the number is told by its size.
        microseconds = moment.dt.epoch("us")
        seconds = microseconds // 1_000_000
        count = pl.when(microseconds % 1_000_000 == 0).then(seconds).otherwise(microseconds)
        return [count.cast(pl.String).alias(name)]
    has_zone = isinstance(kind, pl.Datetime) and kind.time_zone is not None
    if WITH_OFFSET.search(time.format):
        # The form says which moment it is by itself.
        moment = (moment if has_zone else moment.dt.replace_time_zone(time.zone)).dt.convert_time_zone("UTC")
    elif has_zone:
        moment = moment.dt.convert_time_zone(time.zone).dt.replace_time_zone(None)
    zone = "UTC" if WITH_OFFSET.search(time.format) else None
    written = moment.dt.strftime(time.format)
    back = written.str.to_datetime(time.format, time_unit="ns", time_zone=zone, strict=False)
    return [
        pl.when(back == moment.dt.cast_time_unit("ns"))
        .then(written)
        .otherwise(pl.col(name).cast(pl.String))
        .alias(name)
    ]


def _with_plain_decimals(table: pa.Table) -> pa.Table:
    """The table with decimals of more than 38 digits as text: Polars has none."""
    import pyarrow as pa

    for place, column in enumerate(table.schema):
        if pa.types.is_decimal256(column.type):
            table = table.set_column(place, column.name, table[column.name].cast(pa.string()))
    return table


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    return types.is_string(kind) or types.is_large_string(kind)


def _longest_row(table: pa.Table) -> int:
    """How many bytes the text of a row may have, at most.

    Raises:
        ValueError: a cell is longer than a row may be.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    found = 0
    for column in table.columns:
        if not pa.types.is_dictionary(column.type) or not _is_text(column.type.value_type):
            continue
        dictionaries = [chunk.dictionary for chunk in column.chunks]
        longest = max((pc.max(pc.binary_length(texts)).as_py() or 0 for texts in dictionaries), default=0)
        if longest > LONGEST_LINE:
            raise ValueError(f"a cell has {longest:,} bytes, where a row may have {LONGEST_LINE:,}")
        found += longest
    return found
