"""Parses the URL of a folder on a server. `sftp` and `ftp` list and read its files."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from lakehouse.errors import SourceError, SourceUnavailable
from lakehouse.urls import without_password


@dataclass(frozen=True)
class ServerFolder:
    """A folder on a server."""

    scheme: str
    user: str | None
    host: str
    port: int
    path: str
    """Without a trailing slash; a relative path is below the user's home."""

    def __str__(self) -> str:
        """The URL as it may be shown."""
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        own = "/~/" if self.path and not self.path.startswith("/") else ""
        return f"{self.scheme}://{user}{host}:{self.port}{own}{self.path}"


def server_folder(url: str, *, port: int) -> ServerFolder:
    """Parses `scheme://user@host:port/path`; `/~/` starts a path below the user's home.

    Args:
        port: the default port.

    Raises:
        SourceError: the host or the port can't be read.
    """
    scheme, _, address = url.partition("://")
    netloc, _, path = address.partition("/")
    try:
        place = urlsplit(f"//{netloc}")
        port = place.port or port
    except ValueError as error:
        raise SourceError(f"{without_password(url)}: {error}; write scheme://user@host:port/folder") from error
    path = unquote(path).strip("/")
    home = path == "~" or path.startswith("~/")
    return ServerFolder(
        scheme,
        unquote(place.username) if place.username else None,
        place.hostname or "",
        port,
        path.removeprefix("~").lstrip("/") or "." if home else f"/{path}".rstrip("/"),
    )


def no_answer(server: ServerFolder, error: BaseException) -> SourceUnavailable:
    """The error for a server that can't be reached or stops answering."""
    cause = "it took too long" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
    return SourceUnavailable(
        f"{server} doesn't answer: {cause}; check the host, the port and the network, and try again"
    )
