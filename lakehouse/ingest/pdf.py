"""PDF files as objects: a row per page, with the page's text.

A file that can't be read as a whole, is encrypted or has no text at all (a scan) is a corrupt object with that reason.
An empty file has no pages: a vanished object is read as one (see `vanished`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from lakehouse.ingest.formats import BlockReader, Received
from lakehouse.ingest.row_format import RowFormat
from lakehouse.ingest.unpacked import CorruptObject

if TYPE_CHECKING:
    from pypdf import PdfReader

PAGE_COLUMNS = ("sha256", "page", "page_count", "body")
PAGES = RowFormat(format="jsonl", columns={name: name for name in PAGE_COLUMNS}, named={"name": "name"})
"""The rows of a PDF file, and its name."""
_TAIL_BYTES = 2048


class PageReader(BlockReader):
    """The pages of a PDF file, as one block."""

    def __init__(self, name: str, file: IO[bytes], limit: int) -> None:
        super().__init__(name, file, PAGES, limit)
        self._sha256 = ""

    def __iter__(self) -> Iterator[Received]:
        self.file.seek(0)
        content = self.file.read(self.limit + 1)
        if len(content) > self.limit:
            raise CorruptObject(f"{self.name} has more than {self.limit:,} bytes; raise LAKEHOUSE_OBJECT_MAX_BYTES")
        self._sha256 = hashlib.sha256(content).hexdigest()
        yield self._received(content)

    @property
    def digest(self) -> str:
        """The digest of the file."""
        return self._sha256

    def _received(self, content: bytes) -> Received:
        import polars as pl

        texts = page_texts(self.name, content) if content else []
        if not texts:
            return Received(0, None)
        rows = {
            "row_number": range(1, len(texts) + 1),
            "sha256": [self._sha256] * len(texts),
            "page": [str(number) for number in range(1, len(texts) + 1)],
            "page_count": [str(len(texts))] * len(texts),
            "body": [text or None for text in texts],
        }
        frame = pl.DataFrame(rows, schema={"row_number": pl.UInt32, **dict.fromkeys(PAGE_COLUMNS, pl.String)})
        return Received(len(texts), frame, size=len(content))


def page_texts(name: str, content: bytes) -> list[str]:
    """The text of each page of a PDF file.

    Raises:
        CorruptObject: it is no PDF file, cut, damaged, encrypted, or has no text.
    """
    import io

    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    if not content.lstrip().startswith(b"%PDF-"):
        raise CorruptObject(f"{name} is no PDF file; have it sent again")
    if b"%%EOF" not in content[-_TAIL_BYTES:]:
        raise CorruptObject(f"{name} is cut: it lacks the end of a PDF file. Have it sent again")
    try:
        reader = PdfReader(io.BytesIO(content))
        _require_readable(name, reader)
        texts = [_clean(page.extract_text()) for page in reader.pages]
    # What pypdf raises of damage depends on its place.
    except (PyPdfError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise CorruptObject(f"{name} is damaged: {type(error).__name__}: {error}. Have it sent again") from error
    if not any(texts):
        raise CorruptObject(f"{name} has no text; it may be a scan: have it recognised (OCR) and sent again")
    return texts


def _require_readable(name: str, reader: PdfReader) -> None:
    if reader.is_encrypted and not reader.decrypt(""):
        raise CorruptObject(f"{name} is encrypted; have it sent without a password")


def _clean(text: str) -> str:
    """The text without characters that no table should hold."""
    return "".join(each for each in text if each == "\n" or each.isprintable()).strip()
