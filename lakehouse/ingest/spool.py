"""Buffers streamed content as a file: in memory, or on disk if it is large."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from tempfile import SpooledTemporaryFile
from typing import IO

_IN_MEMORY_BYTES = 32_000_000


def spooled(pieces: Iterable[bytes]) -> IO[bytes]:
    """Joins the pieces into one file, positioned at its start. Closing the file deletes it."""
    with ExitStack() as until_whole:
        file: IO[bytes] = until_whole.enter_context(SpooledTemporaryFile(_IN_MEMORY_BYTES))
        for piece in pieces:
            file.write(piece)
        file.seek(0)
        until_whole.pop_all()
    return file
