"""Objects full of rows: their bytes become frames of text, or an answer why not.

Rows are received as text, so that nothing is guessed: fields are split here, and get their types in `typed`.
Which rows are good is not decided here but by the contract (see `lakehouse.pipeline.receive`).
"""

from __future__ import annotations

import csv
import gzip
import io
import lzma
import string
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lakehouse.sources.products import Product

if TYPE_CHECKING:
    import polars as pl

_GZIP_MAGIC = b"\x1f\x8b"
# Besides what zipfile promises: a directory with impossible offsets, an empty name or another method ends in these.
_ZIP_DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    IndexError,
    OSError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zlib.error,
)


class ObjectDamaged(ValueError):
    """An object can't be read as what its source's YAML says it is. The message names the object, the cause and
    the mend.
    """


@dataclass(frozen=True)
class Received:
    """What stands in an object: `rows` counts all of its rows, `frame` holds, as text, those that could be
    split into fields (with `row_number`, from 1), `malformed` the text and the reason of the others by row
    number, `body` the unpacked bytes.
    """

    rows: int
    frame: pl.DataFrame | None
    malformed: dict[int, tuple[str, str]] = field(default_factory=dict)
    body: bytes = b""
    _lines: list[str] | None = None
    _first_line: int = 1
    """Line of the body that is row 1; 0 where no header came."""

    def text(self, row_numbers: list[int]) -> list[str]:
        """The rows' texts as received."""
        if self._lines is not None:
            return [self._lines[number - 1] for number in row_numbers]
        assert self.frame is not None
        if self._first_line < 0:
            rows = self.frame.drop("row_number")
            return [str(rows.row(number - 1, named=True)) for number in row_numbers]
        lines = self.body.split(b"\n")
        return [lines[number - 1 + self._first_line].rstrip(b"\r").decode(errors="replace") for number in row_numbers]


def read_object(name: str, data: bytes, product: Product) -> Received:
    """Splits an object into rows of text.

    Raises:
        ObjectDamaged: it is cut, no gzip, zip or Parquet, has no header, or lacks a column.
    """
    if product.format == "parquet":
        return _read_parquet(name, data, product)
    if product.format == "csv.zip":
        data = _unzipped(name, data)
    elif product.format == "csv.gz" or name.endswith(".gz"):
        data = _unpacked(name, data)
    return _read_csv(name, data.removeprefix(b"\xef\xbb\xbf"), product)


def _unpacked(name: str, data: bytes) -> bytes:
    if not data.startswith(_GZIP_MAGIC):
        raise ObjectDamaged(f"{name} is no gzip file though its name or format says so; have it sent again")
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise ObjectDamaged(f"{name} is a cut or damaged gzip file ({error}); have it sent again") from error


def _unzipped(name: str, data: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [entry for entry in archive.infolist() if not entry.is_dir()]
            content = archive.read(members[0]) if len(members) == 1 else b""
    except _ZIP_DAMAGE as error:
        raise ObjectDamaged(f"{name} is a cut or damaged zip file ({error}); have it sent again") from error
    if len(members) != 1:
        raise ObjectDamaged(f"{name} holds {len(members)} files where one CSV is expected; have it sent again")
    return content


def _require_columns(name: str, found: list[str], product: Product) -> None:
    missing = [column for column in product.object_columns if column not in found]
    if missing:
        raise ObjectDamaged(
            f"{name} lacks the column {', '.join(missing)}; its header has {', '.join(found)}. "
            f"Have it sent again, or mend `columns` of the product {product.name} in its defs.yaml"
        )
    twice = [column for column in product.object_columns if found.count(column) > 1]
    if twice:
        raise ObjectDamaged(
            f"{name} has the column {', '.join(twice)} more than once, so that nobody can tell which one counts; "
            "have it sent again"
        )


def _read_csv(name: str, data: bytes, product: Product) -> Received:
    import polars as pl

    first, _, rest = data.partition(b"\n")
    if not first.strip():
        raise ObjectDamaged(f"{name} is empty; even an hour without trades has a header. Have it sent again")
    delimiter = product.delimiter
    try:
        columns = next(csv.reader([first.decode(errors="replace").rstrip("\r")], delimiter=delimiter))
    except csv.Error as error:
        raise ObjectDamaged(f"{name} does not begin with a header ({error}); have it sent again") from error
    headless = product.header is not None and columns[0] != product.header[0]
    if product.header is not None and headless:
        columns = list(product.header)
    body = data if headless else rest
    _require_columns(name, columns, product)
    if not body.strip():
        return Received(0, None, body=data)
    try:
        frame = pl.read_csv(
            data,
            has_header=not headless,
            new_columns=columns if headless else None,
            separator=delimiter,
            infer_schema=False,
            null_values=list(product.nulls),
        )
    except pl.exceptions.PolarsError:
        return _read_line_by_line(columns, data, body, product)
    if frame.columns != columns:
        # Rows of another width than the header that was declared for them.
        return _read_line_by_line(columns, data, body, product)
    lines = body.count(b"\n") + (not body.endswith(b"\n"))
    # Fewer fields than the header has would be filled up with NULL, and a quoted line break shifts the line
    # numbers: both are rare and read slowly.
    if frame.height != lines or frame.to_series(-1).null_count():
        return _read_line_by_line(columns, data, body, product)
    rows = frame.select(product.object_columns).with_row_index("row_number", 1)
    return Received(frame.height, rows, body=data, _first_line=0 if headless else 1)


def _read_line_by_line(columns: list[str], data: bytes, body: bytes, product: Product) -> Received:
    """The careful way, for an object in which some row doesn't fit its header: only those rows are refused. `body` is
    `data` below its header.
    """
    import polars as pl

    # An empty field is no value whatever the texts, as it is when the object is read in one go.
    nulls = {"", *product.nulls}
    places = [columns.index(column) for column in product.object_columns]
    lines: list[str] = []
    malformed: dict[int, tuple[str, str]] = {}
    good: list[list[str | None]] = []
    numbers: list[int] = []
    for line, fields in _records(body.decode(errors="replace"), product.delimiter):
        lines.append(line)
        if fields is None:
            malformed[len(lines)] = (line, "a quote or a line break in the row makes its fields uncertain")
        elif len(fields) != len(columns):
            malformed[len(lines)] = (line, f"the row has {len(fields)} fields where the header has {len(columns)}")
        else:
            good.append([None if fields[place] in nulls else fields[place] for place in places])
            numbers.append(len(lines))
    frame = pl.DataFrame(good, schema=dict.fromkeys(product.object_columns, pl.String), orient="row")
    return Received(
        len(lines),
        frame.insert_column(0, pl.Series("row_number", numbers, dtype=pl.UInt32)) if good else None,
        malformed,
        data,
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


def _read_parquet(name: str, data: bytes, product: Product) -> Received:
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
    _require_columns(name, columns, product)
    if not table.num_rows:
        return Received(0, None, body=data)
    try:
        chosen = table.select(product.object_columns)
        chosen.validate(full=True)
        text = pl.DataFrame(pl.from_arrow(chosen)).cast(pl.String)
    except errors as error:
        raise ObjectDamaged(f"{name} has a column that cannot be read as text ({error}); have it sent again") from error
    text = text.with_columns(pl.when(~pl.all().is_in(["", *product.nulls])).then(pl.all()))
    return Received(table.num_rows, text.with_row_index("row_number", 1), body=data, _first_line=-1)
