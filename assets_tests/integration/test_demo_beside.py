"""The demo's second process, and child processes that end with their block."""

from __future__ import annotations

import io
import signal
from datetime import date
from pathlib import Path

import pytest
from rich.console import Console

from lakehouse.child_process import started
from lakehouse.cli.demo_beside import playing_beside
from lakehouse.cli.demo_orders import orders_played
from lakehouse.cli.demo_outcomes import RunFailed
from lakehouse.settings import settings

DAY = date(2024, 3, 1)


def test_playing_beside__raises_what_failed_in_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.write_text("a file where the home should be")
    monkeypatch.setenv("LAKEHOUSE_HOME", str(home))

    with playing_beside(Console(file=io.StringIO()), 1, DAY, DAY) as show, pytest.raises(RunFailed, match=str(home)):
        show()


def test_orders_played__raises_what_failed_in_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_DATABASE_URL", "postgresql://127.0.0.1:1/nothing")
    settings.cache_clear()
    with orders_played(1) as counts, pytest.raises(RunFailed, match=r"127\.0\.0\.1"):
        counts()


def test_started__kills_the_process_at_the_end_of_the_block() -> None:
    with pytest.raises(KeyboardInterrupt), started("http.server", "--bind", "127.0.0.1", "0") as process:
        raise KeyboardInterrupt

    assert process.returncode == -signal.SIGKILL
