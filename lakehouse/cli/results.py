"""Prints the result of `lakehouse sql`: one page on a terminal, everything to a pipe or a file.

Belongs here: the formats and the layout of tables. Values that a format doesn't support belong in `result_values`;
errors that end the command in `explained`.

Results of any size are streamed in batches: writing 20 million rows takes the memory of one batch. A table's
columns are as wide as their values in the first batch; a wider value of a later batch widens its own line only, as in
psql with FETCH_COUNT.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, Protocol

from rich.cells import cell_len, set_cell_size
from rich.console import Console

from lakehouse.cli.result_values import (
    AS_OWN_TEXT,
    BATCH_ROWS,
    IN_PARQUET,
    INSIDE_JSON,
    NESTED,
    cast,
    columns_of,
    distinct_names,
    frames,
    stream,
)
from lakehouse.printable import printable

if TYPE_CHECKING:
    import duckdb

_SIGPIPE_STATUS = 141
"""128 + SIGPIPE: the status that a shell reports for a program that wrote to a closed pipe."""
_SMALLEST_PAGE = 10
"""Minimum of rows on a page, however low the terminal."""
_WIDEST_CELL = 40
"""If a table doesn't fit, its cells are cut to this width before columns are left out."""
_KEYS = ("symbol", "name", "instrument_id", "session", "source", "currency")
"""Columns that identify a row: they are left out last, in reverse order."""
_GAP = "…"
_NUMBERS = {
    *("tinyint", "smallint", "integer", "bigint", "hugeint", "utinyint", "usmallint", "uinteger", "ubigint"),
    *("uhugeint", "float", "double", "decimal", "bignum"),
}


class Format(StrEnum):
    """How `lakehouse sql` prints its result."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


def format_of(output: Path | None) -> Format:
    """The format of a file's suffix; a table if it has none."""
    suffix = output.suffix.lower().removeprefix(".") if output else ""
    return Format(suffix) if suffix in set(Format) else Format.table


def print_result(
    console: Console, relation: duckdb.DuckDBPyRelation | None, output_format: Format, output: Path | None
) -> None:
    """Prints a query's result, or writes it to `output`; prints nothing for a statement without one.

    Raises:
        BrokenPipeError: the reader of standard output has closed it.
    """
    if relation is None:
        return
    if output is not None:
        with _replacing(output) as target:
            write_result(relation, output_format, target)
    elif output_format is Format.table and console.is_terminal:
        _print_page(console, relation)
    else:
        stdout = sys.stdout.buffer
        write_result(relation, output_format, _Terminal(stdout) if console.is_terminal else stdout)
        stdout.flush()


class Target(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> int:
        """Writes all of the bytes."""


@dataclass(frozen=True)
class _Terminal:
    """A terminal that receives CSV or JSON, with control characters escaped."""

    target: Target

    def write(self, data: bytes, /) -> int:
        return self.target.write(printable(data.decode(), keep="\r\n\t").encode())


def end_quietly() -> NoReturn:
    """Exits silently with the status of SIGPIPE, like any program whose reader (`head`) has closed the pipe."""
    # Otherwise the interpreter would try to flush the buffer at exit, and fail.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(_SIGPIPE_STATUS)


def write_result(relation: duckdb.DuckDBPyRelation, output_format: Format, target: Target) -> None:
    """Writes every row of a result, batch by batch."""
    write = {
        Format.table: _write_table,
        Format.csv: _write_csv,
        Format.json: _write_json,
        Format.parquet: _write_parquet,
    }[output_format]
    write(relation, target)


def partial_of(output: Path, process: int) -> Path:
    """The temporary file that a process writes before it replaces `output`."""
    return output.with_name(f".{output.name}.{process}.partial")


@contextmanager
def _replacing(output: Path) -> Iterator[BinaryIO]:
    """A file that replaces `output` once it is complete, so that an interrupted result never looks complete. A device
    or a named pipe is written directly.
    """
    if output.exists() and not output.is_file():
        with output.open("wb") as target:
            yield target
        return
    partial = partial_of(output, os.getpid())
    try:
        target = partial.open("wb")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(output)) from error
    try:
        with target:
            yield target
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)


def _write_csv(relation: duckdb.DuckDBPyRelation, target: Target) -> None:
    import polars as pl

    # CSV has no lists: write them as JSON.
    columns = [
        f"to_json({cast(value, kind, {})})" if kind.id in NESTED else cast(value, kind, AS_OWN_TEXT)
        for value, kind in columns_of(relation)
    ]
    names = pl.DataFrame(schema=dict.fromkeys(distinct_names(relation.columns), pl.String))
    target.write(names.write_csv().encode())
    for frame in frames(relation, columns, "%Y-%m-%dT%H:%M:%S%.6f", "%z"):
        target.write(frame.write_csv(include_header=False).encode())


def _write_json(relation: duckdb.DuckDBPyRelation, target: Target) -> None:
    columns = [
        cast(value, kind, INSIDE_JSON if kind.id in NESTED else AS_OWN_TEXT, keys="VARCHAR")
        for value, kind in columns_of(relation)
    ]
    before = b"["
    for frame in frames(relation, columns, "%Y-%m-%d %H:%M:%S%.f", "%:z"):
        if frame.height:
            target.write(before + frame.write_json().encode()[1:-1])
            before = b","
    target.write(b"[]" if before == b"[" else b"]")


def _write_parquet(relation: duckdb.DuckDBPyRelation, target: Any) -> None:
    from pyarrow import parquet

    columns = [cast(value, kind, IN_PARQUET) for value, kind in columns_of(relation)]
    reader = stream(relation, dict(zip(distinct_names(relation.columns), columns, strict=True)))
    with parquet.ParquetWriter(target, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)


@dataclass(frozen=True)
class _Column:
    """A column of a table of text. `width` is in a terminal's cells."""

    name: str
    kind: str
    is_number: bool
    width: int


def _write_table(relation: duckdb.DuckDBPyRelation, target: Target) -> None:
    batches = _texts(relation)
    first = next(batches, [])
    columns = _columns(relation, first)
    _write_lines(target, _head(columns))
    _write_lines(target, (_line(columns, row) for row in first))
    for batch in batches:
        _write_lines(target, (_line(columns, row) for row in batch))
    _write_lines(target, [_rule(columns, "└┴┘")])


def _write_lines(target: Target, lines: Iterator[str] | Sequence[str]) -> None:
    target.write("".join(f"{line}\n" for line in lines).encode())


def _print_page(console: Console, relation: duckdb.DuckDBPyRelation) -> None:
    """Prints the rows and columns that fit, and the number of those that don't."""
    page = max(_SMALLEST_PAGE, console.height - 6)
    rows = next(_texts(relation.limit(page + 1)), [])
    columns = _columns(relation, rows[:page])
    shown = fitting(columns, console.width)
    if len(shown) < len(columns):
        narrowed = [
            _Column(column.name, column.kind, column.is_number, min(column.width, _WIDEST_CELL)) for column in columns
        ]
        shown = fitting(narrowed, console.width)
        columns = narrowed
    laid_out, places = _with_gaps(columns, shown, console.width)
    lines = _head(laid_out)
    for row in rows[:page]:
        lines.append(_line(laid_out, [_GAP if place is None else row[place] for place in places], cut=True))
    lines.append(_rule(laid_out, "└┴┘"))
    console.out("\n".join(lines), highlight=False)
    notes = []
    if len(rows) > page:
        (total,) = relation.aggregate("count(*)").fetchall()[0]
        notes.append(f"{page:,} of {total:,} rows shown, {total - page:,} more")
    if len(shown) < len(columns):
        hidden = ", ".join(column.name for place, column in enumerate(columns) if place not in shown)
        notes.append(f"{len(shown):,} of {len(columns):,} columns shown, not {hidden}")
    if notes:
        console.out("; ".join(notes) + ". A pipe or --output FILE gets everything.", highlight=False)


def fitting(columns: Sequence[_Column], width: int) -> set[int]:
    """The indices of the columns that fit, at least one: first those that identify a row, then from both ends
    inwards.
    """
    places = range(len(columns))
    keys = sorted(
        (place for place in places if columns[place].name in _KEYS),
        key=lambda place: _KEYS.index(columns[place].name),
    )
    inwards = sorted(places, key=lambda place: (min(place, len(columns) - 1 - place), place))
    shown: set[int] = set()
    for place in dict.fromkeys([*keys, *inwards]):
        wanted = shown | {place}
        gaps = sum(1 for _ in _gaps(sorted(wanted), len(columns)))
        if 1 + sum(columns[each].width + 3 for each in wanted) + gaps * 4 <= width or not shown:
            shown = wanted
    return shown


def _gaps(shown: Sequence[int], count: int) -> Iterator[int]:
    """The indices of shown columns (or the end) before which columns are left out."""
    for before, place in zip([-1, *shown], [*shown, count], strict=True):
        if place - before > 1:
            yield place


def _with_gaps(columns: Sequence[_Column], shown: set[int], width: int) -> tuple[list[_Column], list[int | None]]:
    """The columns in their layout, with a narrow one for each gap, and the index of each (None for a gap)."""
    gaps = set(_gaps(sorted(shown), len(columns)))
    laid_out: list[_Column] = []
    places: list[int | None] = []
    for place in range(len(columns) + 1):
        if place in gaps:
            laid_out.append(_Column(_GAP, _GAP, False, 1))
            places.append(None)
        if place in shown:
            column = columns[place]
            widest = max(1, width - 4 - 4 * len(gaps))
            laid_out.append(_Column(column.name, column.kind, column.is_number, min(column.width, widest)))
            places.append(place)
    return laid_out, places


def _texts(relation: duckdb.DuckDBPyRelation) -> Iterator[list[tuple[str, ...]]]:
    """The rows as printable text, batch by batch."""
    columns = ", ".join(f"#{number}::VARCHAR AS c{number}" for number in range(1, len(relation.columns) + 1))
    texts = relation.project(columns)
    # Not as Arrow batches: pyarrow's import takes longer than a query.
    while rows := texts.fetchmany(BATCH_ROWS):
        yield [tuple("NULL" if text is None else printable(text) for text in row) for row in rows]


def _columns(relation: duckdb.DuckDBPyRelation, rows: Sequence[tuple[str, ...]]) -> list[_Column]:
    found = []
    for place, (name, kind) in enumerate(zip(relation.columns, relation.types, strict=True)):
        title = printable(name)
        words = printable(str(kind)).lower()
        # The type of an enumeration lists all its values: too long for a title.
        words = words if len(words) <= max(_WIDEST_CELL // 2, len(title)) else kind.id
        width = max(_width(title), _width(words), *(_width(row[place]) for row in rows), 1)
        found.append(_Column(title, words, kind.id in _NUMBERS, width))
    return found


def _head(columns: Sequence[_Column]) -> list[str]:
    names = [column.name for column in columns]
    kinds = [column.kind for column in columns]
    return [
        _rule(columns, "┌┬┐"),
        _line(columns, names, cut=True),
        _line(columns, kinds, cut=True),
        _rule(columns, "├┼┤"),
    ]


def _rule(columns: Sequence[_Column], corners: str) -> str:
    return corners[0] + corners[1].join("─" * (column.width + 2) for column in columns) + corners[2]


def _line(columns: Sequence[_Column], row: Sequence[str], *, cut: bool = False) -> str:
    """A row between bars, numbers right-aligned. With `cut`, text too long for its column ends with an ellipsis."""
    cells = []
    for column, text in zip(columns, row, strict=True):
        room = column.width - _width(text)
        if room < 0 and cut:
            text = set_cell_size(text, column.width - 1) + _GAP
        blanks = " " * max(0, room)
        cells.append(f" {blanks}{text} " if column.is_number else f" {text}{blanks} ")
    return "│" + "│".join(cells) + "│"


def _width(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)
