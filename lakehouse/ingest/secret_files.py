"""Secrets that an installation makes for itself: files that only their owner can read, never seen half written."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path


def kept_once(file: Path, make: Callable[[], bytes]) -> bytes:
    """The content of a file of secrets, which is made if it is missing. Of two processes at once, the first one's
    stays.

    Raises:
        OSError: it can't be read or written.
    """
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = _written_beside(file, make())
        try:
            os.link(fresh, file)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return file.read_bytes()


def replace_secret(file: Path, value: bytes) -> None:
    """Puts another secret in the place of one.

    Raises:
        OSError: it can't be written.
    """
    os.replace(_written_beside(file, value), file)


def _written_beside(file: Path, value: bytes) -> Path:
    fresh = file.with_name(f"{file.name}-{secrets.token_hex(4)}")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as made:
        made.write(value)
        made.flush()
        os.fsync(made.fileno())
    return fresh
