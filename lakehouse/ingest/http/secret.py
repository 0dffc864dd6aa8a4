"""Removes vendors' keys from errors, logs, and answers that repeat them.

`lakehouse.settings` provides the key, and `connection` sends it.
"""

from __future__ import annotations

import logging
import re
from urllib.parse import quote, quote_plus

# A line with two words, or with the word key, is prose; one of numbers, dates, JSON labels or headers is not.
_PROSE = re.compile(rb"(?i)[a-z]{2,}[^\w\r\n]* [^\w\r\n]*[a-z]{2,}|key")


class Secret:
    """A key, or its parts, and how they are removed from texts and bodies. Its own representation doesn't show them."""

    def __init__(self, *keys: str) -> None:
        # The key and its encodings in URLs; the longest first, since one may begin with another.
        forms = {form for key in keys for form in (key, quote(key, safe=""), quote(key), quote_plus(key))}
        self._forms = sorted(forms, key=len, reverse=True)
        any_form = "|".join(map(re.escape, self._forms))
        self._whole = re.compile(rf"(?<![A-Za-z0-9])(?:{any_form})(?![A-Za-z0-9])".encode())
        self._numeric = any(not re.search(r"[A-Za-z]", key) for key in keys)

    def hidden(self, text: str) -> str:
        """The text without the key."""
        for form in self._forms:
            text = text.replace(form, "***")
        return text

    def hidden_in(self, body: bytes) -> bytes:
        """The body without the key. A key made of digits may equal a number in the data, so it is removed from prose
        only.
        """
        if not any(form.encode() in body for form in self._forms):
            return body
        return b"".join(
            line if self._numeric and not _PROSE.search(line) else self._whole.sub(b"***", line)
            for line in body.splitlines(keepends=True)
        )


class WithoutKey(logging.Filter):
    """Removes the key from log records."""

    def __init__(self, secret: Secret) -> None:
        super().__init__()
        self._secret = secret

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._secret.hidden(record.getMessage()), ()
        return True
