"""Objects full of rows: their bytes become frames of text, block by block, or an answer why not.

Rows are received as text, so that nothing is guessed: fields are split here, and get their types in `coerce`.
Which rows are good is not decided here but by the contract (see `lakehouse.ingest.stage`). How an object's
bytes become text is known in `plain_text`, and in `parquet`.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import IO, TYPE_CHECKING

from lakehouse.ingest import json_lines
from lakehouse.ingest.parquet import damages, frames, opened
from lakehouse.ingest.plain_text import plain_text
from lakehouse.ingest.quoting import is_guessed
from lakehouse.ingest.row_format import RowFormat
from lakehouse.ingest.signatures import header_mistaken, listed, said
from lakehouse.ingest.unpacked import LONGEST_LINE, CorruptObject, Lines, lines_of, too_large, unpacked

if TYPE_CHECKING:
    import polars as pl

# The standard limit is below that of the fast reader, and below that of a line.
csv.field_size_limit(LONGEST_LINE)
_BLANK_LINES = re.compile(rb"\A(?:[ \t\r\f\v]*\n)+")
_SEPARATOR = re.compile(rb"\A\"?sep=([^\r\n]*?)\"?[ \r]*(?:\n|\Z)", re.IGNORECASE)
"""Excel's line before the header that says what divides the columns."""
_QUOTED_OF_A_LONG_LINE = 1_000


@dataclass(frozen=True)
class Received:
    """Consecutive rows of an object: `rows` counts them, `frame` holds, as text, those that could be split into fields
    (with `row_number`, from 1), `malformed` the text and the reason of the others by row number.

    Args:
        before: how many rows of the object come before these.
        size: bytes that the rows take.
        digest: of all that the object says, where these are all of its rows.
        repeated: how many further rows the object has that equal those of another (see `differences`), where these are
            all of its other rows.
    """

    rows: int
    frame: pl.DataFrame | None
    malformed: dict[int, tuple[str, str]] = field(default_factory=dict)
    before: int = 0
    size: int = 0
    digest: str = ""
    repeated: int = 0
    _body: bytes | None = None
    """The lines of all rows, UTF-8; None if the rows are not lines."""
    _lines: list[str] | None = None

    def with_frame(self, frame: pl.DataFrame, malformed: dict[int, tuple[str, str]]) -> Received:
        """The same rows with other texts in their fields, which are all that is left of the lines."""
        return replace(self, frame=frame, malformed=malformed, _body=None, _lines=None)

    def text(self, row_numbers: list[int]) -> list[str]:
        """The rows' texts as received."""
        places = [number - 1 - self.before for number in row_numbers]
        if self._lines is not None:
            return [self._lines[place] for place in places]
        if self._body is not None:
            lines = self._body.split(b"\n")
            return [lines[place].removesuffix(b"\r").decode() for place in places]
        assert self.frame is not None
        rows = {row["row_number"]: row for row in self.frame.iter_rows(named=True) if row["row_number"] in row_numbers}
        return [
            str({column: value for column, value in rows[number].items() if column != "row_number"})
            for number in row_numbers
        ]


class BlockReader:
    """All rows of an object, as many at once as fit in memory: an iterator of one block or more, and the `digest` of
    what they say once it is at its end. `file` holds the object's bytes as they were sent, and is read from its start.

    Iterating raises CorruptObject: the object is cut, no gzip, zip or Parquet, has no header, lacks a column, or
    unpacks to more than `limit` bytes.
    """

    repeated: int = 0
    """Rows that it leaves out, since they equal those of another object; known once it is at its end."""

    def __init__(self, name: str, file: IO[bytes], form: RowFormat, limit: int) -> None:
        self.name = name
        self.file = file
        self.form = form
        self.limit = limit
        self._digest = hashlib.blake2b(digest_size=16)

    def __iter__(self) -> Iterator[Received]:
        self.file.seek(0)
        self._digest = hashlib.blake2b(digest_size=16)
        if self.form.format == "parquet":
            return self._parquet_blocks()
        text, form = plain_text(self.name, self.file, self.form, self.limit)
        if self.form.format == "json":
            lines = iter([Lines(_rows_of_document(self.name, b"".join(self._digested(text)), form))])
            return _json_blocks(lines, form)
        lines = lines_of(self._digested(text))
        return _json_blocks(lines, form) if form.format == "jsonl" else _csv_blocks(self.name, lines, form)

    @property
    def digest(self) -> str:
        """The digest of the object's text, however it was packed, or of a Parquet file's bytes."""
        return self._digest.hexdigest()

    def _digested(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._digest.update(piece)
            yield piece

    def _parquet_blocks(self) -> Iterator[Received]:
        for piece in unpacked(self.name, self.file, None, self.limit):
            self._digest.update(piece)
        self.file.seek(0)
        yield from _parquet_blocks(self.name, self.file, self.form, self.limit)


def read_whole(reader: BlockReader) -> Received | None:
    """All rows of an object with its digest; None where they are more than fit in memory at once.

    Raises:
        CorruptObject: see `BlockReader`.
    """
    blocks = iter(reader)
    first = next(blocks)
    return replace(first, digest=reader.digest, repeated=reader.repeated) if next(blocks, None) is None else None


def _require_columns(name: str, found: list[str], form: RowFormat) -> None:
    missing = [column for column in form.object_columns if column not in found and column not in form.optional]
    if missing:
        raise CorruptObject(
            f"{name} lacks the column {', '.join(missing)}; its header has {listed(found)}. "
            f"Have it sent again, or fix `columns` of the product {form.name} in its defs.yaml"
        )
    twice = [column for column in form.object_columns if found.count(column) > 1]
    if twice:
        raise CorruptObject(
            f"{name} has the column {', '.join(twice)} more than once, and nothing says which one counts; "
            "have it sent again"
        )


def _csv_blocks(name: str, blocks: Iterator[Lines], form: RowFormat) -> Iterator[Received]:
    # Blank lines before the header count as little as those between rows.
    start = next((lines for lines in blocks if lines.data.strip()), Lines(b""))
    start = replace(start, data=_BLANK_LINES.sub(b"", start.data, count=1))
    if found := _SEPARATOR.match(start.data):
        _require_delimiter(name, found[1].decode(form.encoding, errors="backslashreplace"), form)
        start = replace(start, data=_BLANK_LINES.sub(b"", start.data[found.end() :], count=1))
    first, _, rest = start.data.partition(b"\n")
    if not first:
        why = "even an hour without trades has a header" if form.header is None else "it has no row"
        raise CorruptObject(f"{name} is empty; {why}. Have it sent again")
    columns = form.named_as_here(_header(name, first if not start.is_cut else None, form))
    headless = form.header is not None and columns[0] != form.header[0]
    if form.header is not None and headless:
        columns = list(form.header)
    elif set(form.object_columns) - set(columns) - set(form.optional) and (
        mistake := header_mistaken(first.decode(form.encoding), form)
    ):
        raise CorruptObject(f"{name} lacks the columns that the product {form.name} has: {mistake}")
    _require_columns(name, columns, form)
    block = _csv_block(columns, start.data if headless else rest, form, 0)
    yield block
    before = block.rows
    for lines in blocks:
        block = _cut_row(lines, form, before) if lines.is_cut else _csv_block(columns, lines.data, form, before)
        before += block.rows
        yield block


def _require_delimiter(name: str, delimiter: str, form: RowFormat) -> None:
    if delimiter != form.delimiter:
        raise CorruptObject(
            f"{name} says that {delimiter!r} divides its columns, and `delimiter` of the product {form.name} is "
            f"{form.delimiter!r}. Correct it in the defs.yaml, or have the file sent again"
        )


def _cut_row(lines: Lines, form: RowFormat, before: int) -> Received:
    """A row that is too long to be read."""
    reason = f"the row is longer than {LONGEST_LINE:,} bytes"
    text = _as_text(lines.data[:_QUOTED_OF_A_LONG_LINE], form)
    return Received(1, None, {before + 1: (f"{text}...", reason)}, before, len(lines.data))


def _rows_of_document(name: str, text: bytes, form: RowFormat) -> bytes:
    """The rows of a JSON document as JSON Lines, each with the document's other members."""
    try:
        document = json_lines.parse(text.decode(form.encoding))
    except ValueError as error:
        raise CorruptObject(f"{name} is no JSON document ({said(error)}); have it sent again") from error
    records = json_lines.at(document, form.records)
    if not isinstance(records, list | dict):
        raise CorruptObject(
            f"{name} has no rows at its member {form.records}; have it sent again, or correct `records` of the product "
            f"{form.name} in its defs.yaml"
        )
    others = {key: value for key, value in document.items() if key != form.records} if form.records else {}
    rows = records if isinstance(records, list) else [records]
    return json_lines.lines({**row, "document": others} if isinstance(row, dict) else row for row in rows)


def _json_blocks(blocks: Iterator[Lines], form: RowFormat) -> Iterator[Received]:
    # An API may answer that there are no records.
    before, nulls = 0, set(form.nulls)
    for lines in chain([next(blocks, Lines(b""))], blocks):
        if lines.is_cut:
            block = _cut_row(lines, form, before)
        else:
            block = _collected(_json_records(lines.data, form, nulls), form, before, len(lines.data))
        before += block.rows
        yield block


def _json_records(data: bytes, form: RowFormat, nulls: Set[str]) -> Iterator[tuple[str, list[str | None] | str]]:
    """Each line's text, and its values in the order of the object's columns, or why it has none."""
    for line in data.split(b"\n"):
        if not line.strip():
            continue
        text = _as_text(line, form)
        try:
            found = json_lines.fields(line.decode(form.encoding), form.object_columns)
        except UnicodeDecodeError:
            yield text, _not_of_encoding(form)
        except ValueError as error:
            yield text, f"the row is not a JSON object: {error}"
        else:
            yield text, [None if value in nulls else value for value in found]


def _header(name: str, line: bytes | None, form: RowFormat) -> list[str]:
    """The fields of an object's first line, which is None where it is too long to be read."""
    if line is None:
        raise CorruptObject(f"{name} does not begin with a header (its first line has no end); have it sent again")
    try:
        return next(csv.reader([line.removesuffix(b"\r").decode(form.encoding)], delimiter=form.delimiter))
    except UnicodeDecodeError as error:
        raise CorruptObject(
            f"{name} has a first line that is not {form.encoding} ({error}); set `encoding` of the product "
            f"{form.name} in its defs.yaml, or have it sent again"
        ) from error
    except csv.Error as error:
        raise CorruptObject(f"{name} does not begin with a header ({error}); have it sent again") from error


def _csv_block(columns: list[str], data: bytes, form: RowFormat, before: int) -> Received:
    import polars as pl

    if not data.strip() and form.delimiter.encode() not in data:
        return Received(0, None, before=before, size=len(data))
    if b"\r" in data and data.count(b"\r") != data.count(b"\r\n"):
        # The fast reader would take such a line break for text.
        return _read_line_by_line(columns, data, form, before)
    try:
        body = data if form.encoding == "utf-8" else data.decode(form.encoding).encode()
        frame = pl.read_csv(
            body,
            has_header=False,
            new_columns=columns,
            separator=form.delimiter,
            infer_schema=False,
            null_values=["", *form.nulls],
        )
    except (UnicodeDecodeError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return _read_line_by_line(columns, data, form, before)
    lines = body.count(b"\n") + (not body.endswith(b"\n"))
    # A block of another width than the header is read slowly. Fewer fields than the header has would be filled up with
    # NULL, an empty one too many would be dropped, and a quoted line break shifts the line numbers: all are rare, and
    # are read slowly, too.
    if frame.columns != columns or frame.height != lines or frame.to_series(-1).null_count():
        return _read_line_by_line(columns, data, form, before)
    if is_guessed(body, form.delimiter.encode()):
        return _read_line_by_line(columns, data, form, before)
    lacking = [pl.lit(None, pl.String).alias(column) for column in form.object_columns if column not in columns]
    rows = frame.with_columns(lacking).select(form.object_columns).with_row_index("row_number", 1 + before)
    return Received(frame.height, rows, before=before, size=len(data), _body=body)


def _read_line_by_line(columns: list[str], data: bytes, form: RowFormat, before: int) -> Received:
    """The careful way, for lines of which some don't fit their header: only those rows are refused."""
    # An empty field is no value whatever the texts, as it is when the object is read in one go.
    nulls = {"", *form.nulls}
    places = [columns.index(column) if column in columns else None for column in form.object_columns]

    def placed(fields: list[str] | str) -> list[str | None] | str:
        if isinstance(fields, str):
            return fields
        if len(fields) != len(columns):
            return f"the row has {len(fields)} fields where the header has {len(columns)}"
        return [None if place is None or fields[place] in nulls else fields[place] for place in places]

    return _collected(((line, placed(fields)) for line, fields in _records(data, form)), form, before, len(data))


def _collected(
    records: Iterable[tuple[str, list[str | None] | str]], form: RowFormat, before: int, size: int
) -> Received:
    """The rows of a block, from the text of each and its values, or why it has none."""
    import polars as pl

    lines: list[str] = []
    malformed: dict[int, tuple[str, str]] = {}
    good: list[list[str | None]] = []
    numbers: list[int] = []
    for line, values in records:
        lines.append(line)
        number = before + len(lines)
        if isinstance(values, str):
            malformed[number] = (line, values)
        else:
            good.append(values)
            numbers.append(number)
    frame = pl.DataFrame(good, schema=dict.fromkeys(form.object_columns, pl.String), orient="row")
    return Received(
        len(lines),
        frame.insert_column(0, pl.Series("row_number", numbers, dtype=pl.UInt32)) if good else None,
        malformed,
        before,
        size,
        _lines=lines,
    )


def _records(data: bytes, form: RowFormat) -> Iterator[tuple[str, list[str] | str]]:
    """Each record's text, and its fields or why they can't be told apart. A record is a line; one with an open
    quote is a malformed line of its own, so that it can't swallow those that follow. Only line feeds end a
    line: form feeds and the separators of Unicode may stand in a name.
    """
    for line in data.split(b"\n"):
        if not line.strip() and form.delimiter.encode() not in line:
            continue
        try:
            text = line.removesuffix(b"\r").decode(form.encoding)
            if '"' in text or "\r" in text or "\n" in text:
                yield text, next(csv.reader([text], delimiter=form.delimiter, strict=True))
            else:
                # The same fields in a quarter of the time.
                yield text, text.split(form.delimiter)
        except UnicodeDecodeError:
            yield _as_text(line, form), _not_of_encoding(form)
        except csv.Error:
            yield text, "a quote or a line break in the row makes its fields uncertain"


def _not_of_encoding(form: RowFormat) -> str:
    return f"the row is not {form.encoding}; set `encoding` of the product {form.name} if it has another (cp1252)"


def _as_text(line: bytes, form: RowFormat) -> str:
    """A line whose bytes are not all of the encoding: those that aren't are shown as `\\xe9`."""
    return line.removesuffix(b"\r").decode(form.encoding, errors="backslashreplace")


def _parquet_blocks(name: str, file: IO[bytes], form: RowFormat, limit: int) -> Iterator[Received]:
    parquet = opened(name, file, form)
    _require_columns(name, parquet.schema_arrow.names, form)
    before = total = 0
    try:
        for frame in frames(parquet, form):
            size = int(frame.estimated_size())
            total += size
            if total > limit:
                raise too_large(name, limit)
            yield Received(frame.height, frame.with_row_index("row_number", 1 + before), before=before, size=size)
            before += frame.height
    except damages() as error:
        raise CorruptObject(
            f"{name} has a column that cannot be read as text ({said(error)}); have it sent again"
        ) from error
    if not before:
        yield Received(0, None)
