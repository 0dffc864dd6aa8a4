"""What an object is, by its first bytes: how it is packed, in which encoding it is, and what else it is where it isn't
what its source's YAML says.

`formats` asks before it reads, so that a file which can be read is read, and another one is refused with its cause
instead of a missing column. The numbers are those of the formats' specifications, as in the `file` command.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator
from typing import Literal

from lakehouse.errors import in_one_line
from lakehouse.ingest.row_format import RowFormat
from lakehouse.ingest.unpacked import CorruptObject
from lakehouse.printable import printable

HEAD_BYTES = 65_536
"""How much of an object is looked at."""
_PACKED: tuple[tuple[bytes, Literal["gzip", "zip"]], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
)
_UNPACK = "have it sent unpacked, or packed as gzip or zip"
_EXPORT = "have it exported as CSV"
_KINDS = (
    (rb"PAR1[^ -~]", "a Parquet file", "set `format: parquet`, or have it sent as text"),
    (rb"\x28\xb5\x2f\xfd", "packed with Zstandard", _UNPACK),
    (rb"BZh[1-9]\x31\x41\x59\x26\x53\x59", "packed with bzip2", _UNPACK),
    (rb"\xfd7zXZ\x00", "packed with xz", _UNPACK),
    (rb"\x04\x22\x4d\x18", "packed with LZ4", _UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (rb"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (rb"\x1f\x8b", "packed with gzip twice", _UNPACK),
    (rb"PK\x03\x04", "a zip file inside of another file", _UNPACK),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel or other Office document", _EXPORT),
    (rb"%PDF-", "a PDF document", _EXPORT),
    (rb"ARROW1\x00\x00", "an Arrow file", _EXPORT),
    (rb"Obj\x01", "an Avro file", _EXPORT),
    (rb"SQLite format 3\x00", "an SQLite database", _EXPORT),
)
# As an error page begins; a header such as <TICKER>,<DATE> is none.
_HTML = re.compile(rb"\s*(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
_XML = re.compile(rb"\s*<\?xml\b", re.IGNORECASE)
_TITLE = re.compile(rb"<(title|h1|code|message)\b[^>]*>([^<]*)<", re.IGNORECASE)
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SHOWN = 60


def packing_of(head: bytes) -> Literal["gzip", "zip"] | None:
    """How an object is packed, whatever its name is."""
    return next((packing for magic, packing in _PACKED if head.startswith(magic)), None)


def marked_encoding(head: bytes) -> str | None:
    """The encoding that a byte order mark names, apart from UTF-8."""
    return next((encoding for mark, encoding in _MARKS if head.startswith(mark)), None)


def require_text(name: str, head: bytes, form: RowFormat) -> None:
    """Checks that the unpacked bytes may be rows of text.

    Raises:
        CorruptObject: they are something else.
    """
    if found := _kind(head):
        kind, fix = found
        raise CorruptObject(f"{name} is {kind}, where the product {form.name} is {form.format}; {fix}")
    if _HTML.match(head) or _XML.match(head):
        kind = "an HTML page" if _HTML.match(head) else "an XML document"
        raise CorruptObject(
            f"{name} is {kind}{_title(head)}, where the product {form.name} is {form.format}: an error of the vendor's "
            "server or of a proxy was saved as the file. Have it sent again"
        )
    if encoding := unmarked_encoding(head[:64]):
        raise CorruptObject(
            f"{name} has zero bytes between its letters, as UTF-16 without a byte order mark has; set `encoding: "
            f"{encoding}` of the product {form.name} in its defs.yaml, or have it sent as UTF-8"
        )
    if form.format == "jsonl" and head.lstrip().startswith(b"["):
        raise CorruptObject(f"{name} is a JSON array, where jsonl has an object per line; have it sent as JSON Lines")


def not_parquet(name: str, head: bytes, form: RowFormat, error: Exception) -> CorruptObject:
    """The error for an object that is no readable Parquet file."""
    packing = packing_of(head)
    if packing:
        return CorruptObject(f"{name} is packed as {packing}, where a Parquet file is expected; have it sent unpacked")
    if head.startswith(b"PAR1"):
        return CorruptObject(f"{name} is a cut or damaged Parquet file ({said(error)}); have it sent again")
    kind = _kind(head)
    what = kind[0] if kind else "empty" if not head.strip() else f"something else, which begins with {_shown(head)}"
    return CorruptObject(
        f"{name} is no readable Parquet file but {what}; have it sent as Parquet, or correct `format` of the product "
        f"{form.name} in its defs.yaml"
    )


def header_mistaken(first: str, form: RowFormat) -> str | None:
    """Why the first line of a CSV isn't the header that is expected, where that can be told; as a message's end."""
    if first.lstrip().startswith(("{", "[")):
        return (
            f"it is JSON ({_cut(first)}): an error of the vendor that was saved as the file, or rows for `format: "
            "jsonl`. Have it sent again, or correct the defs.yaml"
        )
    if first.lstrip().startswith("<") and form.delimiter not in first:
        return f"it is XML or HTML ({_cut(first)}): an error that was saved as the file. Have it sent again"
    for delimiter in ",;\t|":
        fields = _fields(first, delimiter)
        if delimiter != form.delimiter and len(fields) > 1 and set(form.object_columns) <= set(fields):
            return (
                f"its columns are divided by {delimiter!r}, and `delimiter` of the product {form.name} is "
                f"{form.delimiter!r}. Correct it in the defs.yaml"
            )
    return None


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def transcoded(name: str, pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Text in UTF-8, made of an encoding by whose bytes lines can't be told apart.

    Raises:
        CorruptObject: the bytes are not of the encoding.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for piece in pieces:
            yield decoder.decode(piece).encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError as error:
        raise CorruptObject(f"{name} is not {encoding} to its end ({said(error)}); have it sent again") from error


def listed(names: list[str]) -> str:
    """The names of columns for a message, as far as they fit."""
    text = ", ".join(_cut(name) for name in names[:40])
    return f"{text}, ... ({len(names)} in all)" if len(names) > 40 else text


def said(error: Exception) -> str:
    """What a library says, printable and short."""
    text = printable(in_one_line(error))
    return text if len(text) <= 300 else f"{text[:300]}..."


def unmarked_encoding(head: bytes) -> str | None:
    """UTF-16 in one of its orders, where ASCII letters and zero bytes take turns. A hole in a file isn't that."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if even == 0 and odd > len(head) // 3:
        return "utf-16-le"
    return "utf-16-be" if odd == 0 and even > len(head) // 3 else None


def _kind(head: bytes) -> tuple[str, str] | None:
    return next(((kind, fix) for magic, kind, fix in _KINDS if re.match(magic, head)), None)


def _title(head: bytes) -> str:
    found = _TITLE.search(head)
    return f" ({_shown(found[2].strip())})" if found and found[2].strip() else ""


def _shown(text: bytes) -> str:
    return repr(_cut(text[: 4 * _SHOWN].decode(errors="backslashreplace")))


def _cut(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
