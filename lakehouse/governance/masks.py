"""Masks: keyed hashes in place of values, so that equal values stay equal, and only the key lets values be tried.

Each role has a key of its own, made of the installation's: what two roles see can't be joined.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from lakehouse.errors import HomeUnavailable
from lakehouse.ingest.postgres.rows import hashed
from lakehouse.ingest.secret_files import kept_once, replace_secret
from lakehouse.settings import Settings, SettingsError

VARIABLE = "LAKEHOUSE_MASK_KEY"
_DIGITS = 32
"""Hexadecimal digits of a mask: 128 bits, so that no two values share one."""


def mask_key(config: Settings) -> str:
    """The installation's key for masks; made once, in its file of secrets, if it is missing.

    Raises:
        HomeUnavailable: it can't be written.
    """
    if (known := config.secret(VARIABLE)) is not None:
        return known
    file = config.secret_file(VARIABLE)
    try:
        kept_once(file, _fresh)
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
        replace_secret(file, _fresh())
    except OSError as error:
        raise HomeUnavailable(f"the key for masks can't be kept in {file}: {error.strerror}") from error


def _fresh() -> bytes:
    return f"{secrets.token_hex(32)}\n".encode()


def role_key(key: str, role: str) -> bytes:
    """The key with which a role's values are masked."""
    return hmac.new(key.encode(), f"role {role}".encode(), hashlib.sha256).digest()


def masked(column: str, key: bytes) -> str:
    """The expression for a column's mask; NULL stays NULL, and the type is text."""
    quoted = f'"{column}"'
    digest = hashed(f"({quoted})::VARCHAR", key)
    return f"CASE WHEN {quoted} IS NOT NULL THEN substr({digest}, 1, {_DIGITS}) END"
