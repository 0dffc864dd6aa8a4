"""Objects on an FTP server, plain (`ftp://`) or with explicit TLS (`ftps://`): every file below one of its folders.

The guarantees are those of `folder` as far as the protocol allows: times are mostly in whole seconds, and the server
decides what a link is. Listings use MLSD (RFC 3659): the older LIST shows times in the server's own zone, to the
minute, and only the day for old files. A connection does one thing at a time, so each source has a few.
"""

from __future__ import annotations

import ftplib
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any

from lakehouse.errors import ObjectReplaced, ObjectUnreadable, SourceUnavailable
from lakehouse.ingest.access import FROM_ENVIRONMENT, ResolvedAccess
from lakehouse.ingest.listing import FoundFiles, Listing, unusable
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.servers import no_answer, server_folder
from lakehouse.ingest.spool import spooled
from lakehouse.printable import printable

TAKES = ("password",)
"""The entries of an access that an FTP server supports."""
_CONNECTIONS = 4
_ANSWER_S, _IDLE_S = 30, 5
_PIECE_BYTES = 1 << 20
_DEEPEST = 32
"""Nesting depth of folders beyond which we assume a loop of links."""
_LOST = (OSError, EOFError, ftplib.error_proto, ftplib.error_reply)
_OF_ONE_FILE = {"450", "451", "501", "550", "551", "553"}
_UNKNOWN_COMMAND = {"500", "502"}


@dataclass(frozen=True)
class _Entry:
    """A line of a listing: a name and its facts, with fact names in lower case."""

    name: str
    facts: dict[str, str]

    @property
    def kind(self) -> str:
        return self.facts.get("type", "").lower()

    @property
    def changed_ns(self) -> int | None:
        """Modification time (`20170707120000.123` in the listing); None if the server doesn't send it."""
        seconds, _, fraction = self.facts.get("modify", "").partition(".")
        try:
            moment = datetime.strptime(seconds, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            return None
        return int(moment.timestamp()) * 1_000_000_000 + int(f"{fraction:0<9.9}" if fraction.isdecimal() else 0)

    @property
    def size(self) -> int | None:
        return int(self.facts["size"]) if self.facts.get("size", "").isdecimal() else None

    @property
    def tag(self) -> str:
        return "-".join(self.facts.get(fact, "") for fact in ("modify", "size", "unique"))


@dataclass(frozen=True)
class _Folder:
    """A folder to be listed."""

    name: str
    """With a trailing slash; empty at the top."""
    above: tuple[str, ...] = ()
    """The server's unique ids of this folder and its ancestors."""


class Ftp(ObjectSource):
    """The files below `ftp://user@host:port/folder`, or `ftp://host/~/folder` below the user's home. Without a user it
    logs in as `anonymous`.
    """

    def __init__(self, url: str, access: ResolvedAccess = FROM_ENVIRONMENT) -> None:
        self._server = server_folder(url, port=21)
        access.require_only(TAKES, self._server.scheme)
        self._access = access
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        self._idle: list[tuple[ftplib.FTP, float]] = []

    def list(self, prefix: str = "") -> Listing:
        """Every file below `prefix` (a folder), in no particular order.

        Raises:
            SourceUnavailable: the server doesn't answer or refuses the user, or the folder can't be listed.
        """
        found = FoundFiles()
        top = self._entry(prefix)
        level = [_Folder(f"{prefix}/" if prefix else "", (top.facts.get("unique", ""),) if top else ())]
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            while level:
                listed = zip(level, pool.map(lambda folder: self._entries(folder, prefix, found), level), strict=True)
                level = [below for folder, entries in listed for below in _look_at(folder, entries, found)]
        return found.listing()

    def _entries(self, folder: _Folder, prefix: str, found: FoundFiles) -> tuple[_Entry, ...]:
        """The entries of a folder; empty if it can't be listed, which is noted."""
        lines: list[str] = []
        try:
            with self._connection() as connection:
                connection.retrlines(f"MLSD {_sent(self._path(folder.name))}", lines.append)
        except (ftplib.error_perm, ftplib.error_temp) as error:
            is_top = folder.name.rstrip("/") == prefix
            if _code(error) not in _OF_ONE_FILE or (is_top and not prefix):
                raise self._refused(folder.name, error) from error
            if not is_top:
                found.pass_over(folder.name, _said(error))
            return ()
        return tuple(map(_parsed, lines))

    def fetch(self, path: str, tag: str | None) -> IO[bytes]:
        """The file that was listed with `path` and `tag`, at its start.

        Raises:
            ObjectReplaced: it was replaced or removed since it was listed.
            ObjectUnreadable: this file can't be read.
            SourceUnavailable: none can.
        """
        try:
            with self._connection() as connection:
                content = spooled(_pieces(connection, _sent(self._path(path))))
        except (ftplib.error_perm, ftplib.error_temp) as error:
            if _code(error) not in _OF_ONE_FILE:
                raise self._refused(path, error) from error
            if self._entry(path) is None:
                raise ObjectReplaced(f"{self._server}: {path} was removed after it was listed") from error
            raise ObjectUnreadable(
                f"{path} can't be read: {_said(error)}; have it made readable and load it again"
            ) from error
        # Check after the read: a file changed meanwhile may be a mix of both versions.
        if tag is not None and ((entry := self._entry(path)) is None or entry.tag != tag):
            content.close()
            raise ObjectReplaced(f"{self._server}: {path} was replaced while it was read")
        return content

    def can_read(self, path: str) -> bool:
        """Whether the file at `path`, which is listed, can be read by now.

        Raises:
            SourceUnavailable: the server doesn't answer.
        """
        try:
            with self._connection() as connection:
                connection.voidcmd("TYPE I")
                connection.transfercmd(f"RETR {_sent(self._path(path))}").close()
                # Drop the connection, since FTP can't skip the rest of the file.
                connection.close()
        except (ftplib.error_perm, ftplib.error_temp) as error:
            if _code(error) in _OF_ONE_FILE:
                return False
            raise self._refused(path, error) from error
        return True

    def holds(self, path: str, tag: str | None) -> bool:
        """Whether the file at `path` is still the version that was listed; what has gone, or is kept back, was not
        replaced.

        Raises:
            SourceUnavailable: the server doesn't answer.
        """
        entry = self._entry(path) if tag is not None else None
        return entry is None or entry.tag == tag

    def _entry(self, path: str) -> _Entry | None:
        """The facts about a file; None if the server has no such file."""
        try:
            with self._connection() as connection:
                lines = connection.sendcmd(f"MLST {_sent(self._path(path))}").splitlines()
        except (ftplib.error_perm, ftplib.error_temp) as error:
            if _code(error) in _OF_ONE_FILE:
                return None
            raise self._refused(path, error) from error
        return next((_parsed(line.removeprefix(" ")) for line in lines if line.startswith(" ")), None)

    def _refused(self, name: str, error: ftplib.Error) -> SourceUnavailable:
        if _code(error) in _UNKNOWN_COMMAND:
            return SourceUnavailable(
                f"{self._server} doesn't list times and sizes by MLSD and MLST (RFC 3659): {_said(error)}; "
                "use its SFTP, or have its software updated"
            )
        return SourceUnavailable(
            f"{self._server} can't be read: {_said(error)}: {name or '.'}; set the source's URL to the folder of its "
            "objects, and let the user read it"
        )

    def _path(self, name: str) -> str:
        return f"{self._server.path}/{name}".rstrip("/") or "/"

    @contextmanager
    def _connection(self) -> Iterator[ftplib.FTP]:
        """A connection for this caller alone, kept for the next one unless it broke.

        Raises:
            SourceUnavailable: the server doesn't answer, or refuses the user.
        """
        with self._free:
            try:
                connection = self._kept() or self._connected()
                is_sound = False
                try:
                    yield connection
                    is_sound = True
                except (ftplib.error_perm, ftplib.error_temp):
                    is_sound = True
                    raise
                finally:
                    if is_sound:
                        self._keep(connection)
                    else:
                        connection.close()
            except _LOST as error:
                raise no_answer(self._server, error) from error

    def _keep(self, connection: ftplib.FTP) -> None:
        if connection.sock is not None:
            self._idle.append((connection, time.monotonic()))

    def _kept(self) -> ftplib.FTP | None:
        """A connection that is open; servers end those that are idle."""
        while True:
            try:
                connection, used_at = self._idle.pop()
            except IndexError:
                return None
            try:
                if time.monotonic() - used_at > _IDLE_S:
                    connection.voidcmd("NOOP")
                return connection
            except (*_LOST, ftplib.error_perm, ftplib.error_temp):
                connection.close()

    def _connected(self) -> ftplib.FTP:
        server = self._server
        password = self._access.credential("password")
        # Keep undecodable bytes: a name that is not UTF-8 must not end a listing.
        connection = (
            _FtpOverTls(encoding="latin-1", timeout=_ANSWER_S, context=ssl.create_default_context())
            if server.scheme == "ftps"
            else ftplib.FTP(encoding="latin-1", timeout=_ANSWER_S)
        )
        try:
            connection.connect(server.host, server.port)
            connection.login(_sent(server.user or ""), _sent(password or ""))
            if isinstance(connection, _FtpOverTls):
                connection.prot_p()
            for optional in ("OPTS UTF8 ON", "OPTS MLST type;size;modify;unique;"):
                with suppress(ftplib.error_perm):
                    connection.sendcmd(optional)
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise SourceUnavailable(
                f"{server} shows a certificate that is not trusted: {error.verify_message}; set SSL_CERT_FILE to the "
                "authorities that the vendor names"
            ) from error
        except (ftplib.error_perm, ftplib.error_temp) as error:
            connection.close()
            raise SourceUnavailable(
                f"{server} refuses the user {server.user or 'anonymous'}: {_said(error)}; name the user in the URL, "
                "and the variable of the password as access.credentials.password"
            ) from error
        except _LOST:
            connection.close()
            raise
        return connection


class _FtpOverTls(ftplib.FTP_TLS):
    """Resumes the control connection's TLS session on data connections, as many servers require."""

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[Any, int | None]:
        connection, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        assert isinstance(self.sock, ssl.SSLSocket)
        return self.context.wrap_socket(connection, server_hostname=self.host, session=self.sock.session), size


def _pieces(connection: ftplib.FTP, path: str) -> Iterator[bytes]:
    connection.voidcmd("TYPE I")
    with connection.transfercmd(f"RETR {path}") as data:
        while piece := data.recv(_PIECE_BYTES):
            yield piece
        if isinstance(data, ssl.SSLSocket):
            data.unwrap()
    connection.voidresp()


def _look_at(folder: _Folder, entries: tuple[_Entry, ...], found: FoundFiles) -> Iterator[_Folder]:
    """Notes the files of a folder; yields the folders in it."""
    for entry in entries:
        if entry.kind in ("cdir", "pdir") or entry.name in (".", ".."):
            continue
        name, unique = f"{folder.name}{entry.name}", entry.facts.get("unique")
        if why := unusable(entry.name) or ("a slash in its name" if "/" in entry.name else None):
            found.pass_over(name, why)
        elif entry.kind == "dir" and (unique in folder.above or name.count("/") > _DEEPEST):
            found.pass_over(name, "a link to a folder that contains it")
        elif entry.kind == "dir":
            yield _Folder(f"{name}/", (*folder.above, unique) if unique else folder.above)
        elif entry.kind != "file":
            found.pass_over(name, "neither a file nor a folder")
        elif entry.changed_ns is None or entry.size is None:
            found.pass_over(name, "the server doesn't say when it was changed and how large it is")
        else:
            found.add(name, entry.changed_ns, entry.size, entry.tag)


def _parsed(line: str) -> _Entry:
    """`type=file;size=7;modify=20170707120000; name`"""
    said, _, name = line.partition(" ")
    pairs = (fact.partition("=") for fact in said.split(";") if fact)
    facts = {key.lower(): value for key, _, value in pairs}
    return _Entry(name.encode("latin-1").decode(errors="surrogateescape"), facts)


def _sent(text: str) -> str:
    """A text as ftplib has to be given it so that it is sent as UTF-8."""
    return text.encode(errors="surrogateescape").decode("latin-1")


def _code(error: ftplib.Error) -> str:
    return str(error)[:3]


def _said(error: ftplib.Error) -> str:
    return printable(str(error).encode("latin-1", errors="replace").decode(errors="replace"))
