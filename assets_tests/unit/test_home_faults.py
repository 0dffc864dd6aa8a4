"""A home that can't be used ends a command with a sentence that names it and what to do, not with a traceback."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy
import typer

from lakehouse.cli import _explained
from lakehouse.event_log import opened_instance, storage_faults_explained
from lakehouse.lake import Lake
from lakehouse.lake.errors import HomeUnavailable
from lakehouse.runs import prepared_home
from lakehouse.settings import settings

LAKEHOUSE = Path(sys.executable).with_name("lakehouse")


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Path:
    # `prepared_home` sets it.
    monkeypatch.setenv("DAGSTER_HOME", str(settings().home / "dagster"))
    return settings().home


def test_a_home_that_is_a_file_is_called_one(home: Path) -> None:
    home.touch()
    for use in (Lake.open, lambda: prepared_home(settings())):
        with pytest.raises(HomeUnavailable, match=f"{home} is a file.*set LAKEHOUSE_HOME"):
            use()


def test_a_full_disk_under_dagsters_storage_is_told_with_its_folder(home: Path) -> None:
    prepared_home(settings())

    def limited(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA max_page_count = 3")

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", limited)
    try:
        with (
            pytest.raises(HomeUnavailable, match=f"{home}/dagster can't be used: database or disk is full. Free space"),
            storage_faults_explained(),
        ):
            opened_instance()
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "connect", limited)


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EROFS, "Get permission to write there, or set LAKEHOUSE_HOME"),
        (errno.EACCES, "Get permission to write there, or set LAKEHOUSE_HOME"),
        (errno.ENOTDIR, "A file is where a folder is needed"),
    ],
)
def test_faults_of_the_file_system_have_a_hint(number: int, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, _explained():
        raise OSError(number, os.strerror(number), "/data/home/dagster")
    assert ended.value.exit_code == 2
    assert f"Error /data/home/dagster: {os.strerror(number)}. {hint}" in capsys.readouterr().err


def test_another_fault_keeps_its_traceback() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"), _explained():
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def test_a_read_only_home_ends_dev_with_a_sentence(home: Path) -> None:
    without_privileges = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    if without_privileges and shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and setpriv is not installed")
    home.mkdir()
    home.chmod(0o555)
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    ended = subprocess.run(
        [*without_privileges, LAKEHOUSE, "dev"], env=environment, capture_output=True, text=True, timeout=120
    )
    home.chmod(0o755)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert f"Error {home}/dagster: Permission denied. Get permission" in ended.stderr
