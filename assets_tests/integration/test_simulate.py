"""`lakehouse simulate` plays vendors, and says what to set and to run so that a source takes in what they have."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from typer.testing import CliRunner

from assets_tests.conftest import PROJECT_ROOT
from assets_tests.support.patience import PATIENCE_S
from lakehouse.catalog import source_named
from lakehouse.cli.app import app
from lakehouse.settings import settings


def exports(output: str) -> dict[str, str]:
    """The variables that the output says to set."""
    words = [word for line in re.findall(r"^export (.*)$", output, re.MULTILINE) for word in shlex.split(line)]
    return dict(word.split("=", 1) for word in words)


def said(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["simulate", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_exchange__publishes_objects_of_the_source_stage_by_stage(tmp_path: Path) -> None:
    days = ("--from", "2024-03-04", "--to", "2024-03-05")
    output = said("exchange", str(tmp_path), *days)
    assert exports(output) == {"LAKEHOUSE_XETRA_URL": str(tmp_path)}
    assert "lakehouse backfill xetra --from 2024-03-04 --to 2024-03-05" in output
    names = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.gz")]
    assert len(names) > 20
    assert all(source_named("xetra").bars.parse_name(name) for name in names)
    said("exchange", str(tmp_path), *days, "--stage", "late")
    assert len(list(tmp_path.rglob("*.gz"))) == len(names) + 1


def test_api__says_how_to_ask_it() -> None:
    output = said("api", "--from", "2024-03-04", "--to", "2024-03-05", "--symbols", "2", "--seconds", "0")
    found = exports(output)
    assert found["LAKEHOUSE_ALPHA_VANTAGE_URL"].startswith("http://127.0.0.1:")
    assert len(found["LAKEHOUSE_ALPHA_VANTAGE_SYMBOLS"].split(",")) == 2
    assert "lakehouse backfill alpha_vantage --from 2024-03-04 --to 2024-03-05" in output


def test_days_without_a_session_are_refused() -> None:
    output = said("exchange", "--from", "2024-03-09", "--to", "2024-03-10", code=2)
    assert "no session from 2024-03-09 to 2024-03-10" in " ".join(output.split())


def test_feed__answers_until_it_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_IEX_SYMBOLS", "GME")
    settings.cache_clear()
    command = [Path(sys.executable).with_name("lakehouse"), "simulate", "feed", "iex"]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        found = exports("".join(lines))
        with urlopen(f"{found['LAKEHOUSE_IEX_URL']}/stock/GME/quote?token={found['IEX_TOKEN']}") as answer:
            assert json.load(answer)["symbol"] == "GME"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
    assert lines[-1] == "lakehouse stream iex\n"
