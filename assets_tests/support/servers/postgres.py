"""PostgreSQL for tests: the embedded server by the project's own launcher, and Debian's.

Each test makes a database of its own on a server that all tests of a process share.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from assets_tests.support.servers.process import MissingBinary, ServerProcess, WhileEntered, free_port
from lakehouse.servers.postgres import Database, Place, database

DEBIAN_BINARIES = Path("/usr/lib/postgresql/15/bin")
_numbers = count()


class EmbeddedPostgres(WhileEntered):
    """The embedded server, in a folder of its own, while the `with` block runs."""

    def _enter(self, started: ExitStack) -> None:
        folder = started.enter_context(TemporaryDirectory(prefix="lakehouse-postgres-"))
        self.place = Place(Path(folder) / "postgres")
        self.server = started.enter_context(database(self.place))


class DebianPostgres(WhileEntered):
    """Debian's PostgreSQL 15, on a port of 127.0.0.1; as root it runs as the user `postgres`.

    Raises (on entering):
        MissingBinary: the Debian package is missing.
        ServerError: it did not start; with the end of its log.
    """

    def _enter(self, started: ExitStack) -> None:
        if not DEBIAN_BINARIES.is_dir():
            raise MissingBinary("PostgreSQL 15 is not installed (Debian package: postgresql-15)")
        folder = Path(started.enter_context(TemporaryDirectory(prefix="lakehouse-debian-postgres-")))
        data, port = folder / "data", free_port()
        data.mkdir()
        as_user = []
        if os.geteuid() == 0:
            as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
            folder.chmod(0o755)
            shutil.chown(data, "postgres", "postgres")
        binary = [*as_user, str(DEBIAN_BINARIES / "initdb")]
        subprocess.run(
            [*binary, "-D", str(data), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"],
            check=True,
            capture_output=True,
            cwd="/",
        )
        settings = {"port": str(port), "listen_addresses": "127.0.0.1", "wal_level": "logical"}
        settings |= {"unix_socket_directories": "", "max_connections": "200"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        process = ServerProcess(
            [*as_user, str(DEBIAN_BINARIES / "postgres"), "-D", str(data), *options],
            log=folder / "log",
            env=dict(os.environ),
            cwd=Path("/"),
        )
        started.callback(process.stop)
        self.server = Database(f"postgresql://postgres@127.0.0.1:{port}/postgres")
        process.wait_until(self._answers, what="answer")

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.server.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def new_database(server: Database, template: str = "template1") -> Iterator[Database]:
    """A database on a server, a copy of another one, dropped afterwards with its replication slots."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with server.connect(autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy".encode())
    try:
        yield Database(with_database(server.url, name))
    finally:
        with server.connect(autocommit=True) as connection:
            slots = "SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = %s"
            for slot, process in connection.execute(slots, [name]).fetchall():
                if process is not None:
                    connection.execute("SELECT pg_terminate_backend(%s, 5000)", [process])
                connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def copy_of(server: Database, name: str, make: Callable[[Database], None]) -> AbstractContextManager[Database]:
    """A database as `make` left one, which is made once a server and copied."""
    with server.connect(autocommit=True) as connection:
        known = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone()
        if known is None:
            connection.execute(f"CREATE DATABASE {name}_unfinished".encode())
            make(Database(with_database(server.url, f"{name}_unfinished")))
            connection.execute(f"ALTER DATABASE {name}_unfinished RENAME TO {name}".encode())
    return new_database(server, name)


def with_database(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    address, question, options = url.partition("?")
    return f"{address.rpartition('/')[0]}/{name}{question}{options}"
