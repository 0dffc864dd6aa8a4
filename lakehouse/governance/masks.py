"""Masks: keyed hashes in place of values, so that equal values stay equal and nobody without the key can try values.

Each role has a key of its own, made of the installation's: what two roles see can't be joined.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from lakehouse.errors import HomeUnavailable
from lakehouse.ingest.postgres.rows import hashed
from lakehouse.settings import Settings, SettingsError

VARIABLE = "LAKEHOUSE_MASK_KEY"
_DIGITS = 32
"""Hexadecimal digits of a mask: 128 bits, so that no two values share one."""


def mask_key(config: Settings) -> str:
    """The installation's key for masks; made once, in its file of secrets, if there is none.

    Raises:
        HomeUnavailable: it can't be written.
    """
    if (known := config.secret(VARIABLE)) is not None:
        return known
    file = config.secret_file(VARIABLE)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = written_secret(file, secrets.token_hex(32))
        try:
            # Of two processes at once the first one's key stays, and is never seen half written.
            os.link(fresh, file)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    except OSError as error:
        raise HomeUnavailable(f"the key for masks can't be kept in {file}: {error.strerror}") from error
    made = config.secret(VARIABLE)
    assert made is not None
    return made


def rotate_mask_key(config: Settings) -> None:
    """Replaces the key for masks by another one.

    Raises:
        SettingsError: the key is given by the environment.
        HomeUnavailable: it can't be written.
    """
    file, known = config.secret_file(VARIABLE), mask_key(config)
    if not file.exists() or file.read_text().strip() != known:
        raise SettingsError(
            f"{VARIABLE} is set in the environment: set another one there, and publish to the roles again"
        )
    try:
        os.replace(written_secret(file, secrets.token_hex(32)), file)
    except OSError as error:
        raise HomeUnavailable(f"the key for masks can't be kept in {file}: {error.strerror}") from error


def written_secret(beside: Path, value: str) -> Path:
    """A file beside another one that holds a secret, readable by its owner alone."""
    fresh = beside.with_name(f"{beside.name}-{secrets.token_hex(4)}")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{value}\n")
        file.flush()
        os.fsync(file.fileno())
    return fresh


def role_key(key: str, role: str) -> bytes:
    """The key with which a role's values are masked."""
    return hmac.new(key.encode(), f"role {role}".encode(), hashlib.sha256).digest()


def masked(column: str, key: bytes) -> str:
    """The expression for a column's mask; NULL stays NULL, and the type is text."""
    quoted = f'"{column}"'
    digest = hashed(f"({quoted})::VARCHAR", key)
    return f"CASE WHEN {quoted} IS NOT NULL THEN substr({digest}, 1, {_DIGITS}) END"
