"""Objects full of bars: their bytes become text frames, and text frames become typed rows or answers why not.

Rows are received as text, so that nothing is guessed: `read_object` only splits fields, `typed` gives every
    column the type that raw_bars' contract names, and what can't be typed becomes NULL, which the contract then
    refuses. Which rows are good is not decided here but by the contract (see `lakehouse.pipeline.load`).
"""

from __future__ import annotations

import csv
import gzip
import string
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lakehouse.sources.config import BarFileConfig

if TYPE_CHECKING:
    import polars as pl

_GZIP_MAGIC = b"\x1f\x8b"


class ObjectDamaged(ValueError):
    """An object can't be read as what its source's YAML says it is. The message names the object, the cause and
    the mend.
    """


@dataclass(frozen=True)
class Received:
    """What stands in an object: `rows` counts all of its rows, `frame` holds, as text, those that could be
    split into fields (with `row_number`, from 1), `malformed` the text and the reason of the others by row
    number.
    """

    rows: int
    frame: pl.DataFrame | None
    malformed: dict[int, tuple[str, str]] = field(default_factory=dict)
    _lines: list[str] | None = None
    _body: bytes = b""

    def text(self, row_numbers: list[int]) -> list[str]:
        """The rows' texts as received."""
        if self._lines is not None:
            return [self._lines[number - 1] for number in row_numbers]
        if self._body:
            lines = self._body.split(b"\n")
            return [lines[number].rstrip(b"\r").decode(errors="replace") for number in row_numbers]
        assert self.frame is not None
        rows = self.frame.drop("row_number")
        return [str(rows.row(number - 1, named=True)) for number in row_numbers]


def read_object(name: str, data: bytes, config: BarFileConfig) -> Received:
    """Splits an object into rows of text.

    Raises:
        ObjectDamaged: it is cut, no gzip or Parquet, has no header, or lacks a column.
    """
    if config.objects.format == "parquet":
        return _read_parquet(name, data, config)
    if config.objects.format == "csv.gz" or name.endswith(".gz"):
        data = _unpacked(name, data)
    return _read_csv(name, data.removeprefix(b"\xef\xbb\xbf"), config)


def _unpacked(name: str, data: bytes) -> bytes:
    if not data.startswith(_GZIP_MAGIC):
        raise ObjectDamaged(f"{name} is no gzip file though its name or format says so; have it sent again")
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise ObjectDamaged(f"{name} is a cut or damaged gzip file ({error}); have it sent again") from error


def _require_columns(name: str, found: list[str], config: BarFileConfig) -> None:
    missing = [column for column in config.object_columns if column not in found]
    if missing:
        raise ObjectDamaged(
            f"{name} lacks the column {', '.join(missing)}; its header has {', '.join(found)}. "
            f"Have it sent again, or mend `columns` in the defs.yaml of {config.source}"
        )
    twice = [column for column in config.object_columns if found.count(column) > 1]
    if twice:
        raise ObjectDamaged(
            f"{name} has the column {', '.join(twice)} more than once, so that nobody can tell which one counts; "
            "have it sent again"
        )


def _read_csv(name: str, data: bytes, config: BarFileConfig) -> Received:
    import polars as pl

    header, _, body = data.partition(b"\n")
    if not header.strip():
        raise ObjectDamaged(f"{name} is empty; even an hour without trades has a header. Have it sent again")
    delimiter = config.objects.delimiter
    try:
        columns = next(csv.reader([header.decode(errors="replace").rstrip("\r")], delimiter=delimiter))
    except csv.Error as error:
        raise ObjectDamaged(f"{name} does not begin with a header ({error}); have it sent again") from error
    _require_columns(name, columns, config)
    if not body.strip():
        return Received(0, None)
    try:
        frame = pl.read_csv(data, separator=delimiter, infer_schema=False, null_values=list(config.objects.nulls))
    except pl.exceptions.PolarsError:
        return _read_line_by_line(columns, body, config)
    lines = body.count(b"\n") + (not body.endswith(b"\n"))
    # Fewer fields than the header has would be filled up with NULL, and a quoted line break shifts the line
    # numbers: both are rare and read slowly.
    if frame.height != lines or frame.to_series(-1).null_count():
        return _read_line_by_line(columns, body, config)
    return Received(frame.height, frame.select(config.object_columns).with_row_index("row_number", 1), _body=data)


def _read_line_by_line(columns: list[str], body: bytes, config: BarFileConfig) -> Received:
    """The careful way, for an object in which some row doesn't fit its header: only those rows are refused."""
    import polars as pl

    # An empty field is no value whatever the texts, as it is when the object is read in one go.
    nulls = {"", *config.objects.nulls}
    places = [columns.index(column) for column in config.object_columns]
    lines: list[str] = []
    malformed: dict[int, tuple[str, str]] = {}
    good: list[list[str | None]] = []
    numbers: list[int] = []
    for line, fields in _records(body.decode(errors="replace"), config.objects.delimiter):
        lines.append(line)
        if fields is None:
            malformed[len(lines)] = (line, "a quote or a line break in the row makes its fields uncertain")
        elif len(fields) != len(columns):
            malformed[len(lines)] = (line, f"the row has {len(fields)} fields where the header has {len(columns)}")
        else:
            good.append([None if fields[place] in nulls else fields[place] for place in places])
            numbers.append(len(lines))
    frame = pl.DataFrame(good, schema=dict.fromkeys(config.object_columns, pl.String), orient="row")
    return Received(
        len(lines),
        frame.insert_column(0, pl.Series("row_number", numbers, dtype=pl.UInt32)) if good else None,
        malformed,
        lines,
    )


def _records(text: str, delimiter: str) -> Iterator[tuple[str, list[str] | None]]:
    """Each record's text and fields, None where they can't be told apart. A record is a line; one with an open
    quote is a malformed line of its own, so that it can't swallow those that follow. Only line feeds end a
    line: form feeds and the separators of Unicode may stand in a name.
    """
    for line in text.split("\n"):
        line = line.removesuffix("\r")
        if line.strip(string.whitespace):
            try:
                yield line, next(csv.reader([line], delimiter=delimiter, strict=True))
            except csv.Error:
                yield line, None


def _read_parquet(name: str, data: bytes, config: BarFileConfig) -> Received:
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Arrow answers damage with an error, where Polars may end the process; which error depends on the place.
    errors = (
        pa.ArrowException,
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
        ValueError,
        OSError,
        MemoryError,
    )
    try:
        table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
        columns = table.column_names
    except errors as error:
        raise ObjectDamaged(f"{name} is no readable Parquet file ({error}); have it sent again") from error
    _require_columns(name, columns, config)
    if not table.num_rows:
        return Received(0, None)
    try:
        chosen = table.select(config.object_columns)
        chosen.validate(full=True)
        text = pl.DataFrame(pl.from_arrow(chosen)).cast(pl.String)
    except errors as error:
        raise ObjectDamaged(f"{name} has a column that cannot be read as text ({error}); have it sent again") from error
    text = text.with_columns(pl.when(~pl.all().is_in(["", *config.objects.nulls])).then(pl.all()))
    return Received(table.num_rows, text.with_row_index("row_number", 1))


def typed(text: pl.DataFrame, config: BarFileConfig) -> pl.DataFrame:
    """Types the text columns as raw_bars wants them; a text that can't be typed becomes NULL.

    Args:
        text: the object's columns as strings; other columns pass through.

    Returns: raw_bars' instrument, price and quantity columns, start_at, end_at (UTC, microseconds), the columns
        that passed through, and for each column of
        `untyped_columns` a boolean `untyped_<column>`: whether it is NULL though there was a text.
    """
    import polars as pl

    contract = config.contract("raw_bars")
    passed = [column for column in text.columns if column not in config.object_columns]

    def received(name: str) -> pl.Expr:
        return (
            pl.lit(config.constants[name])
            if name in config.constants
            else pl.col(config.columns[name])
            if name in config.columns
            else pl.lit(None, pl.String)
        )

    def value(name: str) -> pl.Expr:
        source = received(name)
        kind = contract.column(name).type
        if kind == "string":
            return source.alias(name)
        if config.objects.decimal == ",":
            # A point is no decimal sign then: 1.234 would be a thousand and more, so it is not typed rather
            # than guessed.
            source = pl.when(~source.str.contains(".", literal=True)).then(source.str.replace(",", ".", literal=True))
        if kind == "double":
            return source.cast(pl.Float64, strict=False).alias(name)
        as_integer = source.cast(pl.Int64, strict=False)
        as_number = source.cast(pl.Float64, strict=False)
        # Some vendors write whole quantities as 1200.0; a quantity with a fraction stays untyped.
        whole = pl.when(as_number == as_number.floor()).then(as_number.cast(pl.Int64, strict=False))
        return pl.coalesce(as_integer, whole).alias(name)

    labelled = (
        pl.concat_str([pl.col(column) for column in config.time.columns], separator=" ")
        .str.to_datetime(config.time.format, time_unit="us", strict=False)
        .dt.replace_time_zone(config.time.zone, ambiguous="null", non_existent="null")
        .dt.convert_time_zone("UTC")
    )
    start = labelled if config.time.label == "start" else labelled - config.interval_length
    own = {
        "interval",
        "start_at",
        "end_at",
        "session",
        "object",
        "object_version",
        "row_number",
        "published_at",
        "ingested_at",
    }
    return text.select(
        *[pl.col(column) for column in passed],
        *[value(column.name) for column in contract.columns if column.name not in own],
        pl.lit(config.interval).alias("interval"),
        start.alias("start_at"),
        (start + config.interval_length).alias("end_at"),
        *[
            (received(name).is_not_null() & value(name).is_null()).alias(f"untyped_{name}")
            for name in untyped_columns(config)
        ],
    )


def untyped_columns(config: BarFileConfig) -> list[str]:
    """The optional columns of numbers that the source fills: there a NULL may mean no value or a text that is
    no number, so `typed` says which.
    """
    columns = config.contract("raw_bars").columns
    return [
        column.name
        for column in columns
        if column.name in config.columns and column.nullable and column.type in ("bigint", "double")
    ]
