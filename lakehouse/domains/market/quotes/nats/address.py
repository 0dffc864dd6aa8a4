"""Parses a broker's URL and separates its credentials, so that they are never shown."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from lakehouse.errors import SourceError
from lakehouse.ingest.http.secret import Secret

_SCHEMES = ("nats", "tls")


class BrokerAddress:
    """`nats://user:password@host:port`, or `nats://token@host:port`; user, password and token percent-encoded.

    Args:
        url: as configured.
        variable: the environment variable that sets it, for error messages.

    Attributes:
        url: without the credentials.
        variable: as given.
        user, password, token: None if the URL has none.

    Raises:
        SourceError: the URL is not a broker's.
    """

    def __init__(self, url: str, variable: str) -> None:
        scheme, _, rest = url.strip().partition("://")
        login, _, place = rest.rpartition("@")
        self.url, self.variable = f"{scheme}://{place}", variable
        if scheme not in _SCHEMES or not _is_place(self.url):
            # A malformed URL may begin with a password.
            shown = self.url if scheme in _SCHEMES else url.strip().rpartition("@")[2]
            raise SourceError(f"{shown!r} is not a broker's URL; set {variable} to nats://host:port")
        first, colon, second = login.partition(":")
        self.user = unquote(first) if colon else None
        self.password = unquote(second) if colon else None
        self.token = unquote(login) if login and not colon else None
        self._secrets = [Secret(secret) for secret in (self.password, self.token) if secret]

    def hidden(self, text: str) -> str:
        """The text without password and token."""
        for secret in self._secrets:
            text = secret.hidden(text)
        return text


def _is_place(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
