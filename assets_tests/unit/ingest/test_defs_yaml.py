"""One broken defs.yaml is named with its line, and leaves the other sources alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lakehouse.cli.app import app
from lakehouse.domains.market.bars.config import configured_sources, described_sources
from lakehouse.domains.market.quotes.config import broken_files, configured_feeds
from lakehouse.errors import SourceError
from lakehouse.ingest import defs_yaml as module
from lakehouse.settings import PROJECT_ROOT

BINANCE = (module.DEFS / "market" / "binance" / "defs.yaml").read_text()
LINE = next(number for number, line in enumerate(BINANCE.splitlines(), 1) if "first_session:" in line)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the defs folder."""
    return Path(shutil.copytree(PROJECT_ROOT / "lakehouse" / "defs", tmp_path / "defs"))


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (BINANCE.replace("first_session:", "first_sesion:"), "first_session: Field required"),
        (BINANCE.replace("first_session: ", "first_session: soon #"), f"line {LINE}: first_session: Input should be"),
        (BINANCE.replace("first_session:", "  : : ["), f"line {LINE}: "),
        ("- a list\n- \xe9\n", "its type is missing; set it to lakehouse.components.MarketSource or"),
        (BINANCE.replace("MarketSource", "MarketSorce"), "its type is 'lakehouse.components.MarketSorce'; set it to"),
        (f"{BINANCE}\n---\n", "its type is missing"),
        ("type: lakehouse.components.MarketSource\n", "line 1: source: Field required"),
        (b"\xff\xfe\x00", "can't decode"),
        ("", "its type is missing"),
    ],
)
def test_a_broken_file_is_named_with_its_line_and_the_others_go_on(
    broken: str | bytes, words: str, folder: Path
) -> None:
    path = folder / "market" / "binance" / "defs.yaml"
    path.write_bytes(broken if isinstance(broken, bytes) else broken.encode())
    assert sorted(configured_sources(folder)) == ["alpha_vantage", "xetra"]
    assert list(configured_feeds(folder)) == ["iex"]
    assert list(broken_files(folder)) == [path]
    with pytest.raises(SourceError) as found:
        described_sources(folder).named("binance", "source")
    assert str(path) in str(found.value)
    assert words in str(found.value)
    with pytest.raises(SourceError, match=r"no source 'xerta'.*did you mean 'xetra'"):
        described_sources(folder).named("xerta", "source")


def test_a_component_that_is_none_of_ours_is_left_to_dagster(folder: Path) -> None:
    path = folder / "market" / "binance" / "defs.yaml"
    path.write_text("type: other_project.Component\n")
    assert sorted(configured_sources(folder)) == ["alpha_vantage", "xetra"]
    assert broken_files(folder) == {}


def test_status_names_the_broken_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = SourceError("defs.yaml, line 7: first_session: Field required")
    monkeypatch.setattr("lakehouse.domains.market.quotes.config.broken_files", lambda: {folder: error})
    result = CliRunner().invoke(app, ["status"], env={"COLUMNS": "300"})
    assert result.exit_code == 0
    assert str(error) in result.output
    assert "xetra" in result.output
