"""Writes a small file in one step: readers find the old text or the new one, and a kill leaves no part of it there."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Makes or replaces a file, in a folder that exists.

    Raises:
        OSError: it can't be written.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
