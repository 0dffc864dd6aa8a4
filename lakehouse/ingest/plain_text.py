"""The text of an object, as it can be divided into rows: unpacked, without a byte order mark, with lines that end in
line feeds, in an encoding that keeps line ends recognisable.

Dividing it belongs in `formats`; what else an object may be is known in `signatures`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import IO

from lakehouse.ingest.row_format import RowFormat, keeps_ascii
from lakehouse.ingest.signatures import HEAD_BYTES, marked_encoding, packing_of, require_text, transcoded
from lakehouse.ingest.unpacked import unpacked

BOM = b"\xef\xbb\xbf"


def plain_text(name: str, file: IO[bytes], form: RowFormat, limit: int) -> tuple[Iterator[bytes], RowFormat]:
    """The text in pieces, and the format by which it can be read: in UTF-8 where its own encoding can't be divided.

    Raises (here or while iterating):
        CorruptObject: it is truncated, damaged, too large or no text.
    """
    head = file.read(HEAD_BYTES)
    file.seek(0)
    found, stated = packing_of(head), _said_packing(name, form)
    packing = found or stated
    if found is None and stated is not None:
        # What should be packed and isn't may be an error page that was saved as the file.
        require_text(name, head, form)
    pieces = _with_head(unpacked(name, file, packing, limit))
    head = next(pieces)
    encoding = marked_encoding(head) or (None if keeps_ascii(form.encoding) else form.encoding)
    pieces = chain([head], pieces)
    if encoding is None:
        require_text(name, head, form)
    else:
        form = form.model_copy(update={"encoding": "utf-8"})
        pieces = transcoded(name, pieces, encoding)
    return _with_line_feeds(pieces, form), form


def _said_packing(name: str, form: RowFormat) -> str | None:
    if form.format == "csv.zip":
        return "zip"
    return "gzip" if form.format == "csv.gz" or name.endswith(".gz") else None


def _with_head(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces, of which the first has `HEAD_BYTES` or more, if there are as many."""
    head: list[bytes] = []
    size = 0
    for piece in pieces:
        head.append(piece)
        size += len(piece)
        if size >= HEAD_BYTES:
            break
    yield b"".join(head)
    yield from pieces


def _with_line_feeds(pieces: Iterator[bytes], form: RowFormat) -> Iterator[bytes]:
    """The text without its byte order mark. Lines of a CSV may end in carriage returns alone, as Excel for Mac writes
    them.
    """
    pieces = _with_head(pieces)
    head = next(pieces).removeprefix(BOM)
    if form.format == "jsonl" or b"\n" in head or b"\r" not in head.rstrip(b"\r"):
        yield head
        yield from pieces
    else:
        yield from (piece.replace(b"\r", b"\n") for piece in chain([head], pieces))
