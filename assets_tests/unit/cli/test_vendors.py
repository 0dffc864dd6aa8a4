"""`lakehouse vendors` lists what ships, and `add` makes a source of it without replacing an edited one."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lakehouse.catalog import descriptions
from lakehouse.cli.app import app
from lakehouse.cli.vendors import SHIPPED, copy_vendor, shipped
from lakehouse.errors import SourceError

NAMES = [path.stem for path in sorted(SHIPPED.glob("*.yaml"))]


def test_list__names_every_vendor_with_what_it_delivers() -> None:
    result = CliRunner().invoke(app, ["vendors"])
    assert result.exit_code == 0
    for name, described in shipped().items():
        assert name in result.output
        assert described in result.output


def test_copy_vendor__makes_sources_that_can_be_read_together(tmp_path: Path) -> None:
    for name in NAMES:
        copy_vendor(name, tmp_path / name / "defs.yaml")
    found = descriptions(tmp_path)
    assert not found.broken
    assert sorted(found.files) == NAMES


def test_copy_vendor__never_replaces_a_file(tmp_path: Path) -> None:
    target = tmp_path / "kraken" / "defs.yaml"
    copy_vendor("kraken", target)
    target.write_text("edited")
    with pytest.raises(SourceError, match="it may have been edited"):
        copy_vendor("kraken", target)
    assert target.read_text() == "edited"


def test_add__suggests_the_vendor_that_was_meant() -> None:
    result = CliRunner().invoke(app, ["vendors", "add", "krakn"])
    assert result.exit_code == 2
    assert "did you mean" in result.output.lower()


@pytest.mark.parametrize("name", NAMES)
def test_yaml__says_where_the_vendor_documents_it(name: str) -> None:
    comment = [line for line in (SHIPPED / f"{name}.yaml").read_text().splitlines() if line.startswith("#")]
    assert any("https://" in line for line in comment)
    assert any(line.startswith("#   ") for line in comment), "column heads and a sample row"
