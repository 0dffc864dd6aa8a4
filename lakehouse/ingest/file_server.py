"""A file server over HTTP as a place of objects: `GET /files` lists names, `GET /download/<name>` gives a file, and
`POST /upload` takes one.

The listing is a JSON array of names, or of objects with `name`. A file's version is made of what the server says of it:
ETag, Last-Modified and length; a server that says none of these gives files that never change. Names that could leave a
folder are passed over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import IO, TYPE_CHECKING
from urllib.parse import quote

from lakehouse.errors import ObjectReplaced, ObjectUnreadable, SourceUnavailable
from lakehouse.ingest.listing import Listing, PassedOver, listing_schema, unusable
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.spool import spooled

if TYPE_CHECKING:
    import httpx

_ABSENT = (404, 410)
_WITHOUT_HEAD = (405, 501)
"""Statuses of a server that doesn't answer HEAD requests."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class FileServer(ObjectSource):
    """The files of a server (see `ObjectSource`)."""

    url: str

    def list(self, prefix: str = "") -> Listing:
        """Lists the files, with what the server says of each.

        Raises:
            SourceUnavailable: the server doesn't answer, or not with a list.
        """
        import polars as pl

        with self._errors_explained("/files"):
            answer = self._client.get("/files")
            answer.raise_for_status()
            said = answer.json()
        if not isinstance(said, list):
            raise SourceUnavailable(f"{self.url}/files: the answer is no list of files")
        names = [each["name"] if isinstance(each, dict) and "name" in each else each for each in said]
        passed_over = [PassedOver(str(name), why) for name in names if (why := _fault_of(name))]
        rows = []
        for name in sorted({name for name in names if not _fault_of(name)}):
            if name.startswith(prefix) and (described := self._described(name)) is not None:
                rows.append((name, described[0], described[1], described[2], described[0], name))
        columns = ("name", "version", "size", "published_at", "tag", "path")
        schema = {column: listing_schema()[column] for column in columns}
        return Listing(pl.DataFrame(rows, schema=schema, orient="row"), tuple(passed_over))

    def fetch(self, path: str, tag: str | None) -> IO[bytes]:
        """Downloads a file; see `ObjectSource`."""
        with self._errors_explained(path), self._client.stream("GET", _download(path)) as answer:
            if answer.status_code in _ABSENT:
                raise ObjectReplaced(f"{self.url}: {path} is no longer there; the next load finds what replaced it")
            if answer.is_client_error:
                raise ObjectUnreadable(f"{self.url}: {path} is refused with {answer.status_code}; ask for access")
            if answer.is_server_error:
                raise ObjectUnreadable(f"{self.url}: {path} can't be given: {answer.status_code}; ask its operator")
            answer.raise_for_status()
            file = spooled(answer.iter_bytes())
        if tag is not None and not self.holds(path, tag):
            file.close()
            raise ObjectReplaced(f"{self.url}: {path} was replaced while it was read; the next load takes the new one")
        file.seek(0)
        return file

    def can_read(self, path: str) -> bool:
        """See `ObjectSource`."""
        return self._described(path) is not None

    def holds(self, path: str, tag: str | None) -> bool:
        """See `ObjectSource`."""
        described = self._described(path)
        return described is not None and described[0] == tag

    def upload(self, name: str, content: bytes) -> None:
        """Puts a file on the server: `POST /upload` with a form whose field `file` has it.

        Raises:
            SourceUnavailable: the server doesn't take it.
        """
        with self._errors_explained(name):
            self._client.post("/upload", files={"file": (name, content)}).raise_for_status()

    def _described(self, name: str) -> tuple[str, int, datetime] | None:
        """The version, size and time of a file; None if it is not there. A file that the server fails on has a version
        of its own, which can't be read: the others go on.
        """
        with self._errors_explained(name):
            answer = self._client.head(_download(name))
            if answer.status_code in _WITHOUT_HEAD:
                with self._client.stream("GET", _download(name)) as answer:
                    pass
            if answer.status_code in _ABSENT:
                return None
            if answer.is_server_error:
                return f"status {answer.status_code}", 0, _EPOCH
            answer.raise_for_status()
        said = [answer.headers.get(header, "") for header in ("etag", "last-modified", "content-length")]
        version = hashlib.blake2b("\0".join(said).encode(), digest_size=12).hexdigest()
        return version, int(said[2] or 0), _moment(said[1])

    @cached_property
    def _client(self) -> httpx.Client:
        import httpx

        return httpx.Client(base_url=self.url, timeout=30, transport=httpx.HTTPTransport(retries=2))

    @contextmanager
    def _errors_explained(self, what: str) -> Iterator[None]:
        import httpx

        try:
            yield
        except (httpx.HTTPError, ValueError) as error:
            raise SourceUnavailable(f"{self.url}: {what} can't be read: {error}") from error


def _download(name: str) -> str:
    return f"/download/{quote(name, safe='')}"


def _fault_of(name: object) -> str | None:
    """Why a name is not that of a file; None if it is."""
    if not isinstance(name, str) or not name:
        return "it is no name"
    if "/" in name or "\\" in name or name in (".", ".."):
        return "its name could leave the folder"
    return unusable(name)


def _moment(text: str) -> datetime:
    """The time of a file; the epoch where the server says none, since versions are in the order of loads."""
    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except (TypeError, ValueError):
        return _EPOCH
