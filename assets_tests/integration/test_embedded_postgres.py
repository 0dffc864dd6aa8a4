"""The embedded PostgreSQL starts wherever the home is, survives kills, is shared, and is stopped by its last user."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from assets_tests.support.patience import PATIENCE_S, wait_until
from lakehouse.catalog import database_place
from lakehouse.errors import DatabaseUnavailable
from lakehouse.local_dagster.dev import database_held
from lakehouse.servers.postgres import Database, Place, database, is_running, is_used, release
from lakehouse.settings import PROJECT_ROOT, settings

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
USE = """
import sys
from pathlib import Path
from lakehouse.servers.postgres import Place, database
with database(Place(Path(sys.argv[1]))) as found, found.connect() as connection:
    print(connection.execute("SELECT 'it answers'").fetchone()[0], flush=True)
    if len(sys.argv) > 2:
        sys.stdin.read()
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are the user's alone."""
    folder = Path(tempfile.mkdtemp(prefix="lakehouse-open-"))
    folder.chmod(0o755)
    yield folder
    # The server's guard ends a moment after it, and closes its files.
    deadline = time.monotonic() + PATIENCE_S
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except OSError:
            assert time.monotonic() < deadline


def answer(found: Database, query: str = "SELECT 'it answers'") -> object:
    with found.connect() as connection:
        (value,) = connection.execute(query).fetchone() or (None,)
        return value


def postmaster(place: Place) -> int:
    return int((place.folder / "data" / "postmaster.pid").read_text().split("\n")[0])


def wait_for_end(place: Place) -> None:
    wait_until(lambda: not (place.folder / "data" / "postmaster.pid").exists())


@pytest.mark.parametrize("name", ["plain", "mit Leerzeichen und Ümläut", "x" * 150], ids=["plain", "umlaut", "150"])
def test_it_starts_in_any_folder_and_is_stopped(name: str, open_folder: Path) -> None:
    place = Place(open_folder / name / "postgres")
    for _ in range(2):
        with database(place) as found:
            assert answer(found) == "it answers"
            assert answer(found, "SHOW wal_level") == "logical"
            assert answer(found, "SHOW fsync") == "on"
            assert answer(found, "SHOW max_slot_wal_keep_size") == "2GB"
            assert ("127.0.0.1" in found.url) is (len(name) == 150)
        assert not is_running(place)
        assert not (place.folder / "data" / "postmaster.pid").exists()


def test_over_tcp_it_wants_its_password(tmp_path: Path) -> None:
    with database(Place(tmp_path / ("x" * 150))) as found:
        user, _, address = found.url.partition("@")
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"{user.rpartition(':')[0]}:wrong@{address}")
        assert user.rpartition(":")[2] not in str(found)


def test_it_starts_in_under_a_second_from_its_folder(tmp_path: Path) -> None:
    place = Place(tmp_path / "postgres")
    with database(place):
        pass
    times = []
    for _ in range(3):
        begun = time.monotonic()
        with database(place) as found:
            answer(found)
            times.append(time.monotonic() - begun)
    assert min(times) < 1


def test_it_changes_nothing_outside_its_folder(tmp_path: Path) -> None:
    def modes() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_mode, path.stat().st_uid) for path in [tmp_path, *tmp_path.parents]}

    before, users = modes(), Path("/etc/passwd").read_bytes()
    with database(Place(tmp_path / "home" / "postgres")):
        pass
    assert modes() == before
    assert Path("/etc/passwd").read_bytes() == users
    assert os.listdir(tmp_path) == ["home"]
    assert os.listdir(tmp_path / "home") == ["postgres"]


@AS_ROOT
def test_as_root_it_runs_as_nobody(open_folder: Path) -> None:
    place = Place(open_folder / "postgres")
    with database(place):
        assert Path(f"/proc/{postmaster(place)}").owner() == "nobody"


@AS_ROOT
def test_as_root_it_runs_below_a_folder_that_only_root_can_enter(open_folder: Path) -> None:
    (open_folder / "private").mkdir(mode=0o700)
    place = Place(open_folder / "private" / "postgres")
    if subprocess.run(["unshare", "--user", "true"]).returncode == 0:
        with database(place) as found:
            assert answer(found) == "it answers"
    else:
        with pytest.raises(DatabaseUnavailable, match="LAKEHOUSE_HOME"), database(place):
            pass
    assert stat.S_IMODE((open_folder / "private").stat().st_mode) == 0o700


@AS_ROOT
def test_a_user_runs_it(open_folder: Path) -> None:
    home = open_folder / "home"
    home.mkdir(mode=0o700)
    shutil.chown(home, "nobody", "nogroup")
    as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"]
    probe = subprocess.run([*as_nobody, sys.executable, "-c", "import lakehouse"], cwd=PROJECT_ROOT)
    if probe.returncode != 0:
        pytest.skip("the user nobody can't run this Python")
    done = subprocess.run(
        [*as_nobody, sys.executable, "-c", USE, str(home / "postgres")],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "it answers\n", done.stderr


def test_it_starts_at_once_after_its_postmaster_was_killed(tmp_path: Path) -> None:
    place = Place(tmp_path / "postgres")
    with database(place) as found:
        with found.connect(autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
            os.kill(postmaster(place), signal.SIGKILL)
        with database(place) as again:
            assert answer(again, "SELECT value FROM kept") == 42
        assert answer(found, "SELECT value FROM kept") == 42
    assert not is_running(place)


def test_two_servers_run_beside_each_other(tmp_path: Path) -> None:
    long = [Place(tmp_path / name / "postgres") for name in ("x" * 150, "y" * 150, "z")]
    with ExitStack() as running:
        found = [running.enter_context(database(place)) for place in long]
        assert len({answer(each, "SHOW data_directory") for each in found}) == 3


def test_commands_at_once_share_one_server(tmp_path: Path) -> None:
    place = Place(tmp_path / "postgres")
    ready, leave = threading.Barrier(5), threading.Event()
    servers = set()

    def use() -> None:
        with database(place) as found:
            servers.add(answer(found, "SELECT pg_postmaster_start_time()"))
            ready.wait(PATIENCE_S)
            leave.wait(PATIENCE_S)

    users = [threading.Thread(target=use) for _ in range(4)]
    for user in users:
        user.start()
    ready.wait(PATIENCE_S)
    leave.set()
    for user in users:
        user.join()
    assert len(servers) == 1
    assert not is_running(place)


def test_the_last_command_stops_it(tmp_path: Path) -> None:
    place = Place(tmp_path / "postgres")
    with database(place) as first:
        with database(place):
            pass
        assert answer(first) == "it answers"
    assert not is_running(place)


@contextmanager
def user_of(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """A command that uses a server until its input ends, from when it has an answer."""
    command = subprocess.Popen(
        [sys.executable, "-c", USE, str(place.folder), "wait"],
        cwd=PROJECT_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with command:
        assert command.stdout is not None
        assert command.stdout.readline() == b"it answers\n"
        yield command


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)
def test_a_killed_command_leaves_no_server(end: signal.Signals, tmp_path: Path) -> None:
    place = Place(tmp_path / "postgres")
    with user_of(place) as command:
        command.send_signal(end)
        command.wait()
    wait_for_end(place)


def test_dev_keeps_the_server_of_a_killed_command_that_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise no sensor could see that the last worker of the orders died."""
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path))
    place = database_place(settings())
    with database_held() as held:
        assert not is_used(place)
        with user_of(place) as command:
            assert held.wait(PATIENCE_S)
            command.kill()
        assert is_used(place)
        os.kill(postmaster(place), signal.SIGKILL)
        assert is_used(place), "a sensor that connects starts it again"
    # For a moment its guard has the lock.
    wait_until(lambda: not is_used(place))
    assert not is_running(place)


def test_it_stays_where_asked(tmp_path: Path) -> None:
    place = Place(tmp_path / "postgres")
    with database(place, keep=True):
        pass
    try:
        assert is_running(place)
        with database(place) as found:
            assert answer(found) == "it answers"
        assert is_running(place)
        with database(place):
            assert not release(place)
    finally:
        assert release(place)
    assert not is_running(place)


def test_a_kept_server_is_stopped_without_users(tmp_path: Path) -> None:
    place = Place(tmp_path / "postgres")
    with database(place, keep=True):
        pass
    assert release(place)
    assert not is_running(place)
    assert release(Place(tmp_path / "never started"))


def test_a_start_that_was_cut_off_is_repeated(tmp_path: Path) -> None:
    place = Place(tmp_path / "postgres")
    (place.folder / "initializing" / "data").mkdir(parents=True)
    (place.folder / "initializing" / "data" / "PG_VERSION").write_text("18\n")
    with database(place) as found:
        assert answer(found) == "it answers"
    assert not (place.folder / "initializing").exists()


def test_a_cluster_of_another_version_is_named(tmp_path: Path) -> None:
    place = Place(tmp_path / "postgres")
    (place.folder / "data").mkdir(parents=True)
    (place.folder / "data" / "PG_VERSION").write_text("17\n")
    with pytest.raises(DatabaseUnavailable, match="is of PostgreSQL 17, and this installation has 18"), database(place):
        pass


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    place = Place(tmp_path / "postgres")
    with database(place):
        pass
    (place.folder / "data" / "postgresql.conf").write_text("nonsense\n")
    with pytest.raises(DatabaseUnavailable, match=r"doesn't start: .*syntax error"), database(place):
        pass


def test_a_home_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with (
        pytest.raises(DatabaseUnavailable, match="home/postgres can't be made"),
        database(Place(tmp_path / "home/postgres")),
    ):
        pass


def test_a_server_of_the_users_own_is_taken_as_it_is(tmp_path: Path) -> None:
    place = Place(tmp_path / "postgres", "postgresql://bank:s3cret@127.0.0.1:1/bank")
    said = r"No connection to .*LAKEHOUSE_DATABASE_URL"
    with database(place) as found, pytest.raises(DatabaseUnavailable, match=said) as refused:
        found.connect()
    assert "s3cret" not in str(refused.value)
    assert not (tmp_path / "postgres").exists()
