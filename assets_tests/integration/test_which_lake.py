"""Which lake a command means: it says so, and reading one makes none."""

from __future__ import annotations

import ast
import fcntl
import io
import os
import re
import signal
from pathlib import Path
from unittest.mock import patch

import pytest
from rich.console import Console

import lakehouse
from assets_tests.integration.test_cli import said
from assets_tests.support.lakes import Lakehouse, finished
from lakehouse.catalog import sources
from lakehouse.cli.demo import play, played
from lakehouse.cli.demo_outcomes import RunFailed
from lakehouse.ingest.dataset import ApiOrigin
from lakehouse.settings import settings

_EVERY_ERROR = re.compile(r"\b(Base)?Exception\b")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a lake would be; the working directory is another folder."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return settings().home


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["status"], 0),
        (["sql", "SELECT 1"], 0),
        (["sql", "FROM lake.quarantine"], 0),
        (["sql", "SHOW ALL TABLES"], 0),
        (["sql", "FROM xetra.daily_bars"], 2),
        (["watch", "--once"], 0),
        (["plot", "AAPL", "--from", "2024-03-01", "--to", "2024-03-01"], 2),
    ],
)
def test_reading_creates_nothing(arguments: list[str], code: int, home: Path) -> None:
    said(*arguments, code=code)
    assert not home.exists()
    assert list(Path.cwd().iterdir()) == []


def test_status_and_errors_name_the_lake(home: Path) -> None:
    assert f"lake: {home / 'lake'}" in said("status", code=0)
    assert f"The lake at {home / 'lake'} has" in said("sql", "FROM xetra.daily_bars", code=2)


def test_a_query_without_a_table_needs_no_lake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_LAKE_URI", "s3://no-such-bucket/lake")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    settings.cache_clear()
    assert "42" in said("sql", "SELECT 41 + 1", code=0)


def test_status_reads_where_nothing_may_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A calendar is kept where that is possible; a file in the place of its folder stands for a read-only home."""
    home.mkdir()
    (home / "cache").write_text("no folder")
    (home / "lake" / "xetra" / "raw_bars").mkdir(parents=True)
    assert "sessions loaded" in said("status", code=0)


def test_a_home_that_is_a_file_is_named(home: Path) -> None:
    home.write_text("no folder")
    text = said("status", code=2)
    assert "is a file" in text
    assert str(home) in text


@pytest.mark.parametrize("shown", ["", "demo"])
def test_a_demo_beside_a_running_ui_is_refused(shown: str, home: Path) -> None:
    kept = home / "demo" / "lake"
    kept.mkdir(parents=True)
    with (home / shown / "dev.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with pytest.raises(RunFailed, match="`lakehouse dev` is running on"):
            play(Console(file=io.StringIO()), 1)
    assert kept.is_dir()


def test_the_ui_of_a_demo_asks_no_vendor_about_its_invented_instruments(home: Path) -> None:
    """OpenFIGI answers without a key, and was asked about a hundred ISINs that don't exist."""
    (home / "demo" / "lake").mkdir(parents=True)
    with patch.dict(os.environ), played():
        origins = [dataset.origin for source in sources().values() for dataset in source.datasets if not dataset.lacks]
        urls = [origin.endpoint.url for origin in origins if isinstance(origin, ApiOrigin)]
    settings.cache_clear()
    assert [url for url in urls if "/v3/mapping" in url]
    assert not [url for url in urls if not url.startswith("http://127.0.0.1:")]


def test_the_ui_of_a_demo_that_was_not_played(home: Path) -> None:
    assert "make it by `lakehouse demo`" in said("dev", "--demo", code=2)
    assert not home.exists()


def test_ctrl_c_ends_a_long_query_in_a_word(tmp_path: Path) -> None:
    process = Lakehouse(tmp_path).start("sql", "FROM range(1_000_000_000_000)", "--format", "csv")
    assert process.stdout is not None
    assert process.stdout.readline() == "range\n"
    process.send_signal(signal.SIGINT)
    code, output = finished(process)
    assert code == 130
    assert output.endswith("Stopped.\n")
    assert "Traceback" not in output


def test_a_handler_of_every_error_raises_it_again() -> None:
    caught = [
        f"{path}:{handler.lineno}"
        for path in Path(lakehouse.__file__).parent.rglob("*.py")
        for handler in ast.walk(ast.parse(path.read_text()))
        if isinstance(handler, ast.ExceptHandler)
        and (handler.type is None or _EVERY_ERROR.search(ast.unparse(handler.type)))
        and not isinstance(handler.body[-1], ast.Raise)
    ]
    assert caught == []
