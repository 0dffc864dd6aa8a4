"""Objects on an SFTP server: every regular file below one of its folders, listed and fetched by its path.

The guarantees are those of `folder` as far as the protocol allows: times are in whole seconds, and the server resolves
links, so links to files are followed and links to folders are not.

asyncssh makes the connection, configured like OpenSSH: known hosts, agent, keys and aliases of `~/.ssh`. One thread
runs it for all sources of this process; requests from several threads share a source's connection.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Awaitable, Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeVar

import asyncssh
from asyncssh import constants

from lakehouse.errors import ObjectReplaced, ObjectUnreadable, SourceError, SourceUnavailable
from lakehouse.ingest.access import FROM_ENVIRONMENT, ResolvedAccess
from lakehouse.ingest.listing import FoundFiles, Listing, unusable
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.servers import no_answer, server_folder
from lakehouse.ingest.spool import spooled

TAKES = ("known_hosts", "key_file", "password", "passphrase")
"""The entries of an access that an SFTP server supports."""
_KNOWN_HOSTS = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")
_CONNECT_S, _ANSWER_S = 20, 60
_SCANS_AT_ONCE = 16
_PIECE_BYTES = 4 << 20
_GONE = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)
_LOST = (
    *(asyncssh.SFTPNoConnection, asyncssh.SFTPConnectionLost, asyncssh.DisconnectError, asyncssh.ChannelOpenError),
    *(OSError, TimeoutError),
)

Answer = TypeVar("Answer")


class Sftp(ObjectSource):
    """The files below `sftp://user@host:port/folder`, or `sftp://host/~/folder` below the user's home."""

    def __init__(self, url: str, access: ResolvedAccess = FROM_ENVIRONMENT) -> None:
        access.require_only(TAKES, "sftp")
        self._server = server_folder(url, port=22)
        self._access = access
        self._connecting = threading.Lock()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._client: asyncssh.SFTPClient | None = None

    def list(self, prefix: str = "") -> Listing:
        """Every file below `prefix` (a folder), in no particular order.

        Raises:
            SourceUnavailable: the server doesn't answer or refuses the user, or the folder can't be listed.
        """
        found = FoundFiles()
        client = self._connected()
        self._answer(self._walk(client, f"{prefix}/" if prefix else "", found), seconds=None)
        return found.listing()

    async def _walk(self, client: asyncssh.SFTPClient, top: str, found: FoundFiles) -> None:
        """Lists a folder and its subfolders, several concurrently, since the time is spent on round trips."""
        free = asyncio.Semaphore(_SCANS_AT_ONCE)

        async def scan(name: str) -> tuple[str, ...]:
            async with free:
                return await self._scan(client, name, top, found)

        level = [top]
        while level:
            level = [name for below in await asyncio.gather(*map(scan, level)) for name in below]

    async def _scan(self, client: asyncssh.SFTPClient, name: str, top: str, found: FoundFiles) -> tuple[str, ...]:
        """Collects the files of a folder; returns its subfolders."""
        below = []
        try:
            async with asyncio.timeout(_ANSWER_S):
                entries = [entry async for entry in client.scandir(self._path(name).encode(errors="surrogateescape"))]
        except _LOST:
            raise
        except asyncssh.SFTPError as error:
            if name != top:
                if not isinstance(error, _GONE):
                    found.pass_over(name, error.reason)
            elif not (top and isinstance(error, _GONE)):
                raise SourceUnavailable(
                    f"{self._server} can't be listed: {error.reason}; set the source's URL to the folder of its "
                    "objects, and let the user read it"
                ) from error
            return ()
        for entry in entries:
            assert isinstance(entry.filename, bytes)
            own = entry.filename.decode(errors="surrogateescape")
            if own in (".", ".."):
                continue
            if why := unusable(own) or ("a slash in its name" if "/" in own else None):
                found.pass_over(f"{name}{own}", why)
            elif await self._is_folder(client, f"{name}{own}", entry.attrs, found):
                below.append(f"{name}{own}/")
        return tuple(below)

    async def _is_folder(
        self, client: asyncssh.SFTPClient, name: str, attrs: asyncssh.SFTPAttrs, found: FoundFiles
    ) -> bool:
        """Collects a file; returns True for a folder."""
        is_link = attrs.type == constants.FILEXFER_TYPE_SYMLINK
        if is_link or attrs.type == constants.FILEXFER_TYPE_UNKNOWN:
            try:
                async with asyncio.timeout(_ANSWER_S):
                    attrs = await client.stat(self._path(name))
            except _LOST:
                raise
            except asyncssh.SFTPError as error:
                if is_link or not isinstance(error, _GONE):
                    found.pass_over(name, f"{'a link that' if is_link else 'it'} can't be followed: {error.reason}")
                return False
        if attrs.type == constants.FILEXFER_TYPE_DIRECTORY:
            if is_link:
                found.pass_over(name, "a link to a folder")
            return not is_link
        if attrs.type != constants.FILEXFER_TYPE_REGULAR:
            found.pass_over(name, "neither a file nor a folder")
        elif attrs.mtime is None or attrs.size is None:
            found.pass_over(name, "the server doesn't say when it was changed and how large it is")
        else:
            found.add(name, attrs.mtime * 1_000_000_000 + (attrs.mtime_ns or 0), attrs.size, _tag(attrs))
        return False

    def fetch(self, path: str, tag: str | None) -> IO[bytes]:
        """The file that was listed with `path` and `tag`, at its start.

        Raises:
            ObjectReplaced: it was replaced or removed since it was listed.
            ObjectUnreadable: this file can't be read.
            SourceUnavailable: none can.
        """
        client = self._connected()
        try:
            file = self._answer(client.open(self._path(path), "rb", encoding=None))
            try:
                content = spooled(self._pieces(file))
                if tag is not None and tag != _tag(self._answer(file.stat())):
                    content.close()
                    raise ObjectReplaced(f"{self._server}: {path} was replaced while it was read")
                return content
            finally:
                self._answer(_closed(file))
        except _GONE as error:
            raise ObjectReplaced(f"{self._server}: {path} was removed after it was listed") from error
        except asyncssh.SFTPError as error:
            raise ObjectUnreadable(
                f"{path} can't be read: {error.reason}; have it made readable and load it again"
            ) from error

    def _pieces(self, file: asyncssh.SFTPClientFile) -> Iterator[bytes]:
        while piece := self._answer(file.read(_PIECE_BYTES)):
            assert isinstance(piece, bytes)
            yield piece

    def can_read(self, path: str) -> bool:
        """Whether the file at `path`, which is listed, can be read by now.

        Raises:
            SourceUnavailable: the server doesn't answer.
        """
        client = self._connected()
        try:
            file = self._answer(client.open(self._path(path), "rb", encoding=None))
            try:
                self._answer(file.read(1))
            finally:
                self._answer(_closed(file))
        except asyncssh.SFTPError:
            return False
        return True

    def holds(self, path: str, tag: str | None) -> bool:
        """Whether the file at `path` is still the version that was listed; what has gone, or is kept back, was not
        replaced.

        Raises:
            SourceUnavailable: the server doesn't answer.
        """
        if tag is None:
            return True
        try:
            return tag == _tag(self._answer(self._connected().stat(self._path(path))))
        except asyncssh.SFTPError:
            return True

    def _path(self, name: str) -> str:
        return f"{self._server.path}/{name}".rstrip("/") or "/"

    def _connected(self) -> asyncssh.SFTPClient:
        """Returns the client of an open connection.

        Raises:
            SourceError: a file or a variable that the access names can't be used.
            SourceUnavailable: the server doesn't answer, has an unknown host key, or refuses the user.
        """
        with self._connecting:
            if self._client is None or self._connection is None or self._connection.is_closed():
                self._connection = _run(self._connect(), None)
                weakref.finalize(self, _loop().call_soon_threadsafe, self._connection.abort)
                self._client = self._answer(self._connection.start_sftp_client(path_errors="surrogateescape"))
            return self._client

    async def _connect(self) -> asyncssh.SSHClientConnection:
        server, access, options = self._server, self._access, dict[str, Any]()
        own_file = access.declared.known_hosts
        known = [Path(name).expanduser() for name in ([own_file] if own_file else _KNOWN_HOSTS)]
        if access.declared.key_file:
            options["client_keys"] = [str(Path(access.declared.key_file).expanduser())]
        for option, name in (("username", server.user), ("password", access.credential("password"))):
            if name is not None:
                options[option] = name
        try:
            async with asyncio.timeout(_CONNECT_S):
                return await asyncssh.connect(
                    server.host,
                    server.port,
                    # An empty list means that no host is known; None would accept any host.
                    known_hosts=[str(path) for path in known if own_file or path.is_file()] or b"",
                    passphrase=access.credential("passphrase"),
                    keepalive_interval=15,
                    **options,
                )
        except asyncssh.HostKeyNotVerifiable as error:
            raise SourceUnavailable(
                f"{server} shows a host key that is not in {' or '.join(map(str, known))}; compare it with the one "
                "that the vendor names, and add it there, or name another file as access.known_hosts"
            ) from error
        except asyncssh.PermissionDenied as error:
            raise SourceUnavailable(
                f"{server} refuses the user {server.user or '(of this process)'}: {error.reason}; name a key file as "
                "access.key_file, or the variable of a password as access.credentials.password, or load the key into "
                "the SSH agent"
            ) from error
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, FileNotFoundError, PermissionError) as error:
            raise SourceError(
                f"a file that access names for {server} can't be used: {error}; correct access.key_file, "
                "access.known_hosts or the variable of the passphrase"
            ) from error
        except _LOST as error:
            raise no_answer(server, error) from error

    def _answer(self, question: Awaitable[Answer], seconds: float | None = _ANSWER_S) -> Answer:
        """Waits for the server's answer. The server's errors about one file are passed on.

        Raises:
            SourceUnavailable: the server doesn't answer.
        """
        try:
            return _run(question, seconds)
        except _LOST as error:
            raise no_answer(self._server, error) from error


def _tag(attrs: asyncssh.SFTPAttrs) -> str:
    return f"{attrs.mtime}.{attrs.mtime_ns or 0}-{attrs.size}"


async def _closed(file: asyncssh.SFTPClientFile) -> None:
    await file.close()


def _run(question: Awaitable[Answer], seconds: float | None) -> Answer:
    """Runs a coroutine in the connections' thread and waits for it."""

    async def in_time() -> Answer:
        async with asyncio.timeout(seconds):
            return await question

    return asyncio.run_coroutine_threadsafe(in_time(), _loop()).result()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """The event loop of all connections, in a thread that ends with the process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="sftp", daemon=True).start()
    return loop


# A forked process doesn't inherit the thread.
os.register_at_fork(after_in_child=_loop.cache_clear)
