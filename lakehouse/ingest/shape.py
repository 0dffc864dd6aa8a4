"""Guesses how the rows of an object are written: its format, encoding, delimiter, header, decimal sign and times.

Only what the bytes say; what the columns mean is guessed in the domains. The guess becomes a `RowFormat`, by which the
sample is read as a load reads it.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Literal

from lakehouse.ingest.formats import BlockReader
from lakehouse.ingest.from_text import in_years
from lakehouse.ingest.row_format import RowFormat
from lakehouse.ingest.signatures import HEAD_BYTES, marked_encoding, packing_of, unmarked_encoding
from lakehouse.ingest.times import WITH_OFFSET
from lakehouse.ingest.unpacked import CorruptObject, unpacked

if TYPE_CHECKING:
    import polars as pl

EPOCH = "epoch"
_SAMPLE_BYTES = 1_000_000
_SAMPLE_LINES = 50
_UNIQUE_TEXTS = 300
_LIMIT = 8 * 2**30
_DELIMITERS = ";\t|,"
_POINT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_COMMA = re.compile(r"[+-]?\d+,\d+")
_MISSING = ("NA", "N/A", "NaN", "nan", "null", "NULL", "None", "-", "--", ".")
_DATES = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d.%m.%Y", "%d-%m-%Y", "%d/%m/%Y", "%m/%d/%Y", "%m-%d-%Y"),
    *("%m.%d.%Y", "%d-%b-%Y", "%d %b %Y", "%b %d %Y", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y"),
)
_TIMES = ("%H:%M", "%H:%M:%S", "%H:%M:%S%.f", "%H%M", "%H%M%S", "%H.%M", "%I:%M %p", "%I:%M:%S %p")
_ENDS = ("", "Z", "%z", " %z")
_NUMBER, _NAME = r"\s*[+-]?\d+", r"\s*\w+"
_PATTERNS = {
    **{f"%{part}": _NUMBER for part in "YymdHIMS"},
    "%b": _NAME,
    "%p": _NAME,
    "%.f": r"(\.\d*)?",
    "%z": r".*",
}
_STAMP = r"^(?<second>\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2})(?<fraction>\.\d+)(?<offset>([+-]\d{2}:\d{2})?)$"
"""A timestamp of Parquet as text."""
_EPOCHS = ((1e8, 5e9), (1e11, 5e12), (1e14, 5e15), (1e17, 5e18))
"""From 1973 to 2128 in seconds, milli-, micro- and nanoseconds."""


@dataclass(frozen=True)
class Shape:
    """How the rows of an object are written.

    Args:
        form: reads every column of the object, by its own name.
        rows: the first rows, as text.
        has_header: whether the names of the columns are the object's own; others are numbered: column_1.
    """

    form: RowFormat
    rows: pl.DataFrame
    has_header: bool = True

    def texts(self, column: str) -> list[str]:
        """Different texts of a column, without those that are missing."""
        found = self.rows[column].drop_nulls().unique(maintain_order=True)
        return [text for text in found.head(_UNIQUE_TEXTS).to_list() if text not in self.form.nulls]

    def is_number(self, column: str) -> bool:
        """Whether a column holds numbers, with the shape's decimal sign."""
        texts = self.texts(column)
        return bool(texts) and all(_is_number(text, self.form.decimal) for text in texts)


def shape_of(name: str, file: IO[bytes]) -> Shape:
    """Guesses from the first rows of an object; `file` is left open.

    Raises:
        CorruptObject: it can't be read as rows of any format.
    """
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if head.startswith(b"PAR1"):
        return _of_parquet(name, file)
    file.seek(0)
    text, encoding = _text(_unpacked_head(name, file, head))
    if text.lstrip().startswith(("{", "[")):
        form, has_header = _json_form(name, text, encoding), True
    else:
        form, has_header = _csv_form(name, text, encoding)
    return _read(name, file, form, has_header)


def _unpacked_head(name: str, file: IO[bytes], head: bytes) -> bytes:
    found = b""
    for piece in unpacked(name, file, packing_of(head), _LIMIT):
        found += piece
        if len(found) >= _SAMPLE_BYTES:
            break
    return found


def _text(data: bytes) -> tuple[str, str]:
    """The text and its encoding, by its marks and by what can be decoded; a cut letter at its end doesn't count."""
    marked = marked_encoding(data) or unmarked_encoding(data[:64])
    if marked is not None:
        return data[: len(data) // 4 * 4].decode(marked, errors="replace"), marked
    for encoding in ("utf-8", "cp1252"):
        try:
            return data.decode(encoding).removeprefix("\ufeff"), encoding
        except UnicodeDecodeError as error:
            if encoding == "utf-8" and error.start >= len(data) - 4 and len(data) >= _SAMPLE_BYTES:
                return data[: error.start].decode(encoding), encoding
    return data.decode("latin-1"), "latin-1"


def _read(name: str, file: IO[bytes], form: RowFormat, has_header: bool) -> Shape:
    import polars as pl

    file.seek(0)
    received = next(iter(BlockReader(name, file, form, _LIMIT)))
    rows = received.frame
    if rows is None:
        why = next(iter(received.malformed.values()), ("", "it has no rows"))[1]
        raise CorruptObject(f"{name} has no row that can be read: {why}")
    rows = rows.drop("row_number")
    nulls = _missing_in(rows)
    if nulls:
        form = form.model_copy(update={"nulls": ("", *nulls)})
        rows = rows.with_columns(pl.when(~pl.all().is_in(list(nulls))).then(pl.all()).name.keep())
    return Shape(form.model_copy(update={"decimal": _decimal_of(rows)}), rows, has_header)


def _missing_in(rows: pl.DataFrame) -> list[str]:
    """The texts that stand for a missing value: among numbers, or as all that a column has."""
    found: list[str] = []
    for column in rows.columns:
        texts = rows[column].drop_nulls().unique().head(_UNIQUE_TEXTS).to_list()
        missing = [text for text in texts if text in _MISSING]
        others = [text for text in texts if text not in _MISSING]
        if missing and all(_is_number(text, ".") or _is_number(text, ",") for text in others):
            found += missing
    return list(dict.fromkeys(found))


def _decimal_of(rows: pl.DataFrame) -> Literal[".", ","]:
    texts = [text for column in rows.columns for text in rows[column].drop_nulls().head(_SAMPLE_LINES)]
    commas = sum(_COMMA.fullmatch(text) is not None for text in texts)
    points = sum("." in text and _POINT.fullmatch(text) is not None for text in texts)
    return "," if commas > points else "."


def _is_number(text: str, decimal: str) -> bool:
    if decimal == ",":
        return _COMMA.fullmatch(text) is not None or text.lstrip("+-").isdecimal()
    return _POINT.fullmatch(text) is not None


def _of_parquet(name: str, file: IO[bytes]) -> Shape:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = pq.ParquetFile(file).schema_arrow.names
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorruptObject(f"{name} is a damaged Parquet file: {error}") from error
    shape = _read(name, file, RowFormat(format="parquet", columns={each: each for each in columns}), True)
    return replace(shape, rows=_with_short_times(shape.rows))


def _with_short_times(rows: pl.DataFrame) -> pl.DataFrame:
    """Timestamps of Parquet as they read with a time's format: without a fraction of zeros, and in UTC with a Z."""
    import polars as pl

    for column in rows.columns:
        texts = rows[column].drop_nulls()
        if texts.len() and texts.str.contains(_STAMP).all():
            parts = pl.col(column).str.extract_groups(_STAMP)
            offset, fraction = parts.struct["offset"], parts.struct["fraction"].str.strip_chars_end("0")
            if rows.select((fraction == ".").all()).item():
                fraction = pl.lit("")
            if rows.select((offset != "").any()).item():
                moment = pl.col(column).str.to_datetime("%Y-%m-%d %H:%M:%S%.f%:z", time_unit="us", time_zone="UTC")
                rows = rows.with_columns(moment.dt.strftime("%Y-%m-%dT%H:%M:%SZ").alias(column))
            else:
                rows = rows.with_columns(pl.concat_str(parts.struct["second"], fraction).alias(column))
    return rows


def _json_form(name: str, text: str, encoding: str) -> RowFormat:
    lines = [line for line in text.splitlines()[:_SAMPLE_LINES] if line.strip()]
    try:
        # The last line of a long object may be cut.
        records = [json.loads(line) for line in (lines[:-1] or lines)]
    except ValueError:
        records = []
    if len(lines) > 1 and records and all(isinstance(record, dict) for record in records):
        return _jsonl(records, encoding)
    try:
        document = json.loads(text)
    except ValueError as error:
        raise CorruptObject(f"{name} is neither JSON Lines nor a JSON document: {error}") from error
    for path, value in _lists(document):
        rows = [row for row in value[:_SAMPLE_LINES] if isinstance(row, dict)]
        if rows:
            others = {key: held for key, held in document.items() if key != path} if isinstance(document, dict) else {}
            beside = [leaf for leaf in _leaves({"document": others}) if path not in leaf]
            columns = dict.fromkeys([*(leaf for row in rows for leaf in _leaves(row)), *beside])
            named = {column: column for column in columns}
            return RowFormat(format="json", records=path, columns=named, encoding=encoding)
    if isinstance(document, dict):
        return _jsonl([document], encoding)
    raise CorruptObject(f"{name} is JSON without a list of objects; rows that are arrays can't be described")


def _jsonl(records: Sequence[dict[str, Any]], encoding: str) -> RowFormat:
    columns = dict.fromkeys(leaf for record in records for leaf in _leaves(record))
    return RowFormat(format="jsonl", columns={column: column for column in columns}, encoding=encoding)


def _leaves(record: dict[str, Any], above: str = "") -> Iterator[str]:
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        elif not isinstance(value, list):
            yield f"{above}{key}"


def _lists(document: Any, above: str = "") -> Iterator[tuple[str, list[Any]]]:
    if isinstance(document, list):
        yield above, document
    elif isinstance(document, dict):
        for key, value in document.items():
            yield from _lists(value, f"{above}.{key}" if above else key)


def _csv_form(name: str, text: str, encoding: str) -> tuple[RowFormat, bool]:
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and (stated := re.fullmatch(r"\"?sep=(.)\"?", lines[0], re.IGNORECASE)):
        delimiter, lines = stated[1], lines[1:]
    else:
        delimiter = _delimiter(lines[:_SAMPLE_LINES])
    if not lines:
        raise CorruptObject(f"{name} is empty")
    first, *others = list(csv.reader(lines[:_SAMPLE_LINES], delimiter=delimiter))
    has_header = len(set(first)) == len(first) and not any(_looks_like_data(cell) for cell in first)
    if has_header and not others:
        raise CorruptObject(f"{name} has a header and no rows")
    header = None if has_header else tuple(f"column_{place}" for place in range(1, len(first) + 1))
    columns = {column: column for column in header or first}
    return RowFormat(format="csv", delimiter=delimiter, header=header, columns=columns, encoding=encoding), has_header


def _looks_like_data(cell: str) -> bool:
    return bool(re.fullmatch(r"[+-]?[\d.,:/\- TZ]*\d[\d.,:/\- TZ]*", cell.strip()))


def _delimiter(lines: Sequence[str]) -> str:
    """The delimiter by which most lines have the same number of fields, of which most are numbers, dates or words."""

    def score(delimiter: str) -> tuple[float, float, int]:
        fields = [fields for fields in csv.reader(lines, delimiter=delimiter) if fields]
        if not fields:
            return 0.0, 0.0, 0
        width, same = Counter(map(len, fields)).most_common(1)[0]
        if width < 2:
            return 0.0, 0.0, 0
        cells = [cell.strip() for row in fields if len(row) == width for cell in row]
        clean = sum(not cell or not re.search(r"[;\t|,]", cell) or bool(_COMMA.fullmatch(cell)) for cell in cells)
        return round(same / len(fields), 1), round(clean / len(cells), 1), width

    return max(_DELIMITERS, key=score) if any(score(each)[2] for each in _DELIMITERS) else ","


def time_formats(shape: Shape, columns: Sequence[str]) -> list[str]:
    """The formats by which every text of the columns, joined by a blank, is a time (see `RowTime`); the likeliest
    first. Day and month may be taken for each other where no day is above 12.
    """
    import polars as pl

    joined = shape.rows.select(pl.concat_str(list(columns), separator=" ").alias("text"))["text"].drop_nulls()
    texts = joined.unique(maintain_order=True)
    texts = pl.concat([texts.head(_UNIQUE_TEXTS // 2), texts.tail(_UNIQUE_TEXTS // 2)]).unique(maintain_order=True)
    if texts.is_empty():
        return []
    if len(columns) == 1 and _are_epochs(texts.to_list()):
        return [EPOCH]
    has_fraction = texts.str.contains(r":\d\d\.\d").any()
    joints = (" ",) if len(columns) > 1 else (" ", "T", "")
    forms = (
        f"{day}{joint}{clock}{end}"
        for day in _DATES
        for clock in ("", *_TIMES)
        for joint in (joints if clock else ("",))
        if joint or not clock or day == "%Y%m%d"
        for end in (_ENDS if clock else ("",))
        if has_fraction or "%.f" not in clock
    )
    return list(islice((form for form in forms if _fits(texts, form)), 4))


@cache
def _pattern(form: str) -> re.Pattern[str]:
    """What every text of a format looks like, and others may: told for one text in a hundredth of the time."""
    parts = re.split(r"(%\.?[A-Za-z]|\s+)", form)
    return re.compile("".join(_PATTERNS.get(part) or (r"\s*" if part.isspace() else re.escape(part)) for part in parts))


def _fits(texts: pl.Series, form: str) -> bool:
    import polars as pl

    first = texts.head(1)
    if not _pattern(form).fullmatch(first.item()):
        return False
    for part in (first, texts):
        zone = "UTC" if WITH_OFFSET.search(form) else None
        try:
            moment = part.str.to_datetime(form, time_unit="us", time_zone=zone, strict=False)
        except pl.exceptions.PolarsError:
            return False
        local = moment.dt.replace_time_zone(None).rename("moment")
        if local.null_count() or local.to_frame().select(in_years(pl.col("moment")))["moment"].null_count():
            return False
    return True


def _are_epochs(texts: Sequence[str]) -> bool:
    if not all(text.isascii() and text.isdecimal() for text in texts):
        return False
    return any(all(low <= int(text) < high for text in texts) for low, high in _EPOCHS)


def mistakes_in(form: RowFormat, name: str, file: IO[bytes], *, is_misdated: bool = False) -> list[str]:
    """What an object's own look says against the entries of its YAML, each with the entry to set.

    Args:
        is_misdated: its rows seem to be of other days than they should be.
    """
    try:
        shape = shape_of(name, file)
    except CorruptObject:
        return []
    found, seen = [], shape.form
    if seen.format != form.format and not (seen.format == "csv" and form.format.startswith("csv")):
        return [f"its rows look like {seen.format}: set `format: {seen.format}` (it is {form.format})"]
    if seen.format == "csv" and seen.delimiter != form.delimiter:
        found.append(
            f"its columns seem to be divided by {seen.delimiter!r}: set `delimiter: {json.dumps(seen.delimiter)}` "
            f"(it is {form.delimiter!r})"
        )
    if seen.encoding != form.encoding and marked_encoding(_head(file)) is None:
        found.append(f"its text seems to be {seen.encoding}: set `encoding: {seen.encoding}` (it is {form.encoding})")
    shown = _decimal_example(shape)
    if seen.decimal != form.decimal and shown is not None:
        found.append(
            f"numbers such as {shown} have the decimal sign {seen.decimal!r}: set `decimal: {json.dumps(seen.decimal)}`"
            f" (it is {form.decimal!r})"
        )
    if form.time is not None and set(form.time.columns) <= set(shape.rows.columns):
        fitting = time_formats(shape, form.time.columns)
        text = " ".join(str(shape.rows[column].drop_nulls().first()) for column in form.time.columns)
        if fitting and form.time.format not in fitting:
            found.append(
                f"times such as {text} have the format {json.dumps(fitting[0])}"
                f"{f' or {json.dumps(fitting[1])}' if len(fitting) > 1 else ''}: set `time.format` (it is "
                f"{json.dumps(form.time.format)})"
            )
        elif len(fitting) > 1 and is_misdated:
            others = [json.dumps(each) for each in fitting if each != form.time.format]
            found.append(f"times such as {text} have the format {' or '.join(others)}, too")
    return found


def _head(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(HEAD_BYTES)


def _decimal_example(shape: Shape) -> str | None:
    """A number with a fraction."""
    texts = (text for column in shape.rows.columns for text in shape.rows[column].drop_nulls().head(_SAMPLE_LINES))
    pattern = _COMMA if shape.form.decimal == "," else re.compile(r"[+-]?\d*\.\d+")
    return next((text for text in texts if pattern.fullmatch(text)), None)


def renamed(shape: Shape, names: Sequence[str]) -> Shape:
    """A shape whose columns have other names, for objects without a header."""
    form = shape.form.model_copy(update={"header": tuple(names), "columns": {name: name for name in names}})
    # Cached properties of the copied model are those of the former names.
    return replace(shape, form=form, rows=shape.rows.rename(dict(zip(shape.rows.columns, names, strict=True))))
