"""Unpacks an object as a stream: no object is held in memory as a whole, however large it unpacks.

Parsing the lines belongs in `formats`.
"""

from __future__ import annotations

import gzip
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO

from lakehouse.errors import LakehouseError
from lakehouse.printable import printable

BLOCK_BYTES = 16_000_000
BLOCK_LINES = 100_000
"""A block ends after the line that reaches one of these limits: coercing its rows takes some 200 MB."""
LONGEST_LINE = 1_000_000
_READ_BYTES = 256 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_DAMAGE = (EOFError, OSError, zlib.error)
# Beyond zipfile's documented errors: impossible offsets, an empty name or another compression method raise these.
_ZIP_DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    IndexError,
    MemoryError,
    OSError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zlib.error,
)


class CorruptObject(LakehouseError):
    """An object can't be read in the format of its source's YAML. The message names object, cause and fix, and is
    printable whatever the object's bytes are.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(printable(message), hint)


class ObjectWithheld(CorruptObject):
    """The store refused to return the object, so its content was not seen."""


@dataclass(frozen=True)
class Lines:
    """Whole lines of an object, or (`is_cut`) the first bytes of a line that is too long to be a row."""

    data: bytes
    is_cut: bool = False


def unpacked(name: str, file: IO[bytes], packing: str | None, limit: int) -> Iterator[bytes]:
    """The bytes of an object in pieces, the first at least three bytes long where there are as many.

    Args:
        packing: gzip, zip (of one file), or None.
        limit: bytes that an object may unpack to.

    Raises:
        CorruptObject: the object is truncated, damaged or too large.
    """
    pieces = {"gzip": _of_gzip, "zip": _of_zip, None: _of_file}[packing](name, file)
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise too_large(name, limit)
        yield piece


def too_large(name: str, limit: int) -> CorruptObject:
    """The error for an object that unpacks to more than `limit` bytes."""
    return CorruptObject(
        f"{name} unpacks to more than {limit:,} bytes; have it sent again, or raise LAKEHOUSE_OBJECT_MAX_BYTES if its "
        "size is right"
    )


def lines_of(pieces: Iterable[bytes]) -> Iterator[Lines]:
    """Splits the pieces into blocks of whole lines; only the last line may lack its line end."""
    whole: list[bytes] = []
    tail, size, count, skips = b"", 0, 0, False
    for piece in pieces:
        end = piece.find(b"\n")
        if skips:
            piece, skips = (piece[end + 1 :], False) if end >= 0 else (b"", True)
        elif len(tail) + (end if end >= 0 else len(piece)) > LONGEST_LINE:
            if whole:
                yield Lines(b"".join(whole))
            yield Lines(tail, is_cut=True)
            whole, tail, size, count = [], b"", 0, 0
            piece, skips = (piece[end + 1 :], False) if end >= 0 else (b"", True)
        last = piece.rfind(b"\n") + 1
        if not last:
            tail += piece
            continue
        whole.append(tail + piece[:last])
        tail = piece[last:]
        size += len(whole[-1])
        count += piece.count(b"\n")
        if size >= BLOCK_BYTES or count >= BLOCK_LINES:
            yield Lines(b"".join(whole))
            whole, size, count = [], 0, 0
    if whole or tail:
        yield Lines(b"".join([*whole, tail]))


def _of_file(name: str, file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_READ_BYTES):
        yield piece


def _of_gzip(name: str, file: IO[bytes]) -> Iterator[bytes]:
    if file.read(len(_GZIP_MAGIC)) != _GZIP_MAGIC:
        raise CorruptObject(f"{name} is no gzip file though its name or format says so; have it sent again")
    file.seek(0)
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as archive:
            while piece := archive.read(_READ_BYTES):
                yield piece
    except _GZIP_DAMAGE as error:
        raise CorruptObject(f"{name} is a cut or damaged gzip file ({error}); have it sent again") from error


def _of_zip(name: str, file: IO[bytes]) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(file) as archive:
            members = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(members) == 1:
                with archive.open(members[0]) as member:
                    while piece := member.read(_READ_BYTES):
                        yield piece
    except _ZIP_DAMAGE as error:
        raise CorruptObject(f"{name} is a cut or damaged zip file ({error}); have it sent again") from error
    if any(entry.filename == "[Content_Types].xml" for entry in members):
        raise CorruptObject(f"{name} is an Excel workbook or another Office document; have it exported as CSV")
    if len(members) != 1:
        raise CorruptObject(f"{name} holds {len(members)} files where one CSV is expected; have it sent again")
