"""Where a folder on a server is, by its URL. How its files are listed and read is said in `sftp` and `ftp`."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from lakehouse.errors import SourceError, SourceUnavailable


@dataclass(frozen=True)
class ServerFolder:
    """A folder on a server."""

    scheme: str
    user: str | None
    host: str
    port: int
    path: str
    """Without a slash at its end; one that begins with none is below the user's own folder."""

    def __str__(self) -> str:
        """The URL as it may be shown."""
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        own = "/~/" if self.path and not self.path.startswith("/") else ""
        return f"{self.scheme}://{user}{host}:{self.port}{own}{self.path}"


def server_folder(url: str, *, port: int) -> ServerFolder:
    """What `scheme://user@host:port/path` says; `/~/` begins a path below the user's own folder.

    Args:
        port: the one that is meant where none is named.

    Raises:
        SourceError: the port is no number.
    """
    scheme, _, address = url.partition("://")
    netloc, _, path = address.partition("/")
    place = urlsplit(f"//{netloc}")
    try:
        port = place.port or port
    except ValueError as error:
        raise SourceError(f"{url}: {error}; write scheme://user@host:port/folder") from error
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
    """The error of a server that can't be reached, or falls silent."""
    cause = "it took too long" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
    return SourceUnavailable(
        f"{server} doesn't answer: {cause}; check the host, the port and the network, and try again"
    )
