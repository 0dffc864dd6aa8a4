"""`lakehouse sources` and `--version`."""

from __future__ import annotations

import csv
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lakehouse.catalog import descriptions
from lakehouse.cli.app import app
from lakehouse.cli.source_list import listed_sources
from lakehouse.settings import settings


def test_listed_sources__says_what_each_lacks_or_how_to_take_it_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {line.source: line for line in listed_sources()}
    assert sorted(before) == sorted(descriptions().files)
    assert (before["xetra"].state, before["iex"].state) == ("not set up", "not set up")
    assert "LAKEHOUSE_XETRA_URL" in before["xetra"].next
    assert "lakehouse banking init" in before["banking"].next
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", str(tmp_path))
    monkeypatch.setenv("IEX_TOKEN", "a-token")
    settings.cache_clear()
    after = {line.source: line for line in listed_sources()}
    assert (after["xetra"].state, after["xetra"].next) == ("ready", "lakehouse update xetra")
    assert (after["iex"].state, after["iex"].next) == ("ready", "lakehouse stream iex")


def test_sources__are_data_in_another_format(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["sources", "--output", str(tmp_path / "sources.csv")])
    assert result.exit_code == 0, result.output
    with (tmp_path / "sources.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [tuple(row.values()) for row in rows] == [tuple(line) for line in listed_sources()]


def test_sources__are_a_table_on_the_screen() -> None:
    result = CliRunner().invoke(app, ["sources"])
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.output.splitlines()[1:] if not line.startswith(" ")] == sorted(
        descriptions().files
    )


def test_version__is_that_of_the_package() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith(f"lakehouse {version('lakehouse')} (Python ")
