"""The key with which personal data are hashed."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

from lakehouse.errors import HomeUnavailable
from lakehouse.ingest.secret_files import kept_once

_BYTES = 32


def pii_key(given: str | None, home: Path) -> bytes:
    """The key: made of `given`, or one that is made once and kept in the home. Who loses it can't compare hashes with
    those of before: the next comparison finds every row with personal data changed.

    Raises:
        HomeUnavailable: the key can't be read or kept.
    """
    if given is not None:
        return hashlib.sha256(given.encode()).digest()
    path = home / "pii-key"
    try:
        home.mkdir(parents=True, exist_ok=True)
        return kept_once(path, lambda: secrets.token_bytes(_BYTES))
    except OSError as error:
        raise HomeUnavailable(f"the key for personal data can't be kept in {path}: {error.strerror}") from error
