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
from typer.testing import CliRunner

from assets_tests.support.patience import PATIENCE_S
from lakehouse.api import Lake
from lakehouse.cli.app import app
from lakehouse.cli.explained import explained
from lakehouse.errors import HomeUnavailable
from lakehouse.local_dagster.backfill import prepared_home
from lakehouse.local_dagster.instance import opened_instance, storage_faults_explained
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
    with pytest.raises(typer.Exit) as ended, explained():
        raise OSError(number, os.strerror(number), "/data/home/dagster")
    assert ended.value.exit_code == 2
    assert f"Error /data/home/dagster: {os.strerror(number)}. {hint}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EIO, os.strerror(errno.EIO), "/data/home"), "/data/home: Input/output error. Check this file"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/data/home"), "/data/home: File name too long. Choose a"),
        (OSError("no answer"), "no answer. Check this file and its disk"),
    ],
)
def test_a_fault_without_a_hint_of_its_own_has_no_traceback(
    error: OSError, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, explained():
        raise error
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err.startswith(f"Error {said}")


def test_a_closed_pipe_ends_a_command_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BrokenPipeError), explained():
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("home", "command", "said"),
    [
        (f"/var/tmp/{'a' * 300}", ["status"], "File name too long"),
        ("/proc/foo", ["backfill", "xetra", "--from", "2024-03-01"], "/proc/foo: No such file or directory. Restore"),
    ],
    ids=["a name of 300 characters", "/proc"],
)
def test_a_home_that_cannot_be_made_has_no_traceback(
    home: str, command: list[str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"HOME": home, "XETRA_URL": str(tmp_path)}.items():
        monkeypatch.setenv(f"LAKEHOUSE_{name}", value)
    settings.cache_clear()
    ended = CliRunner().invoke(app, command)
    assert ended.exit_code == 2
    assert said in ended.output
    assert home in ended.output
    assert len(ended.output.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_read_only_home_ends_dev_with_a_sentence(home: Path) -> None:
    without_privileges = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    if without_privileges and shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and setpriv is not installed")
    home.mkdir()
    home.chmod(0o555)
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    ended = subprocess.run(
        [*without_privileges, LAKEHOUSE, "dev"], env=environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    home.chmod(0o755)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert f"Error {home}/dagster: Permission denied. Get permission" in ended.stderr
