"""PostgreSQL, embedded below the home or a server of the user's own.

`database()` gives the URL of a server that answers. The embedded server is started if it isn't running, shared by all
processes that use the same folder, and stopped by the last of them. Its files are all in one folder:

    data/        the cluster, and the Unix socket
    log          the server's messages
    password     of the role postgres over TCP; the socket's folder can only be entered by its owner
    start.lock   held exclusively while the server is started or stopped
    users.lock   shared by everything that uses the server
    keep         exists while the server is to stay up without users

A process that is killed loses its share of `users.lock`, as the kernel drops its locks: then `guard` stops the server.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from lakehouse.errors import DatabaseUnavailable
from lakehouse.servers.launch import OTHER_PLACE, Cluster
from lakehouse.urls import without_password

if TYPE_CHECKING:
    import psycopg

_CONNECT_TIMEOUT_S = 10


@dataclass(frozen=True)
class Place:
    """Where the database is.

    Args:
        folder: of the embedded server.
        url: of the user's own server; None for the embedded one.
    """

    folder: Path
    url: str | None = None


@dataclass(frozen=True)
class Database:
    """A database that answers. `url` is what libpq, psycopg and SQLAlchemy take; it may have a password."""

    url: str

    def connect(self, *, autocommit: bool = False) -> psycopg.Connection:
        """A connection.

        Raises:
            DatabaseUnavailable: the server doesn't answer, or refuses the user.
        """
        import psycopg

        try:
            return psycopg.connect(self.url, autocommit=autocommit, connect_timeout=_CONNECT_TIMEOUT_S)
        except psycopg.OperationalError as error:
            raise DatabaseUnavailable(
                f"No connection to {self}: {' '.join(str(error).split())}",
                "Start the server or correct LAKEHOUSE_DATABASE_URL",
            ) from None

    def __str__(self) -> str:
        return without_password(self.url)


@contextmanager
def database(place: Place, *, keep: bool = False) -> Iterator[Database]:
    """The database of a place, while the context lasts.

    Args:
        keep: leave the embedded server running afterwards, until `release`.

    Raises:
        DatabaseUnavailable: the embedded server can't be started.
    """
    if place.url is not None:
        yield Database(place.url)
        return
    cluster = Cluster(place.folder)
    cluster.make_folder()
    with ExitStack() as open_files:
        try:
            users = open_files.enter_context((place.folder / "users.lock").open("a"))
        except OSError as error:
            raise DatabaseUnavailable(f"{error.filename} can't be written: {error.strerror}", OTHER_PLACE) from None
        with _exclusive(place.folder):
            # A server that is being stopped by its guard is waited for here.
            fcntl.flock(users, fcntl.LOCK_SH)
            if keep:
                cluster.keep.touch()
            cluster.ensure_running(guarded_by=Path(users.name))
        try:
            yield Database(cluster.url)
        finally:
            with _exclusive(place.folder):
                _leave(cluster, users)


def is_running(place: Place) -> bool:
    """Whether the embedded server of a place answers."""
    return Cluster(place.folder).answers()


def is_used(place: Place) -> bool:
    """Whether there may be something new in a database: it is the user's own server, or a process uses the embedded
    one, also where that was killed.
    """
    if place.url is not None:
        return True
    if not was_made(place):
        return False
    with (place.folder / "users.lock").open("a") as users, _exclusive(place.folder):
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def was_made(place: Place) -> bool:
    """Whether the embedded server of a place was ever started."""
    return Cluster(place.folder).data.is_dir()


def release(place: Place) -> bool:
    """Stops an embedded server that was kept running, or leaves that to its last user; returns whether it is stopped.

    Raises:
        DatabaseUnavailable: it doesn't stop.
    """
    cluster = Cluster(place.folder)
    if not place.folder.is_dir():
        return True
    cluster.keep.unlink(missing_ok=True)
    with (place.folder / "users.lock").open("a") as users, _exclusive(place.folder):
        _leave(cluster, users)
    return not cluster.answers()


def _leave(cluster: Cluster, users: IO[str]) -> None:
    """Gives up the share of `users.lock`; the last one stops the server unless it is to be kept."""
    fcntl.flock(users, fcntl.LOCK_UN)
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # Others use the server, or its guard is stopping it: that is waited for.
        fcntl.flock(users, fcntl.LOCK_SH)
    else:
        if not cluster.keep.exists():
            cluster.stop()
    fcntl.flock(users, fcntl.LOCK_UN)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    with (folder / "start.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
