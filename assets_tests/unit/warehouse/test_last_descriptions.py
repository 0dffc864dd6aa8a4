"""The descriptions that a home keeps for sources whose files get a fault."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lakehouse import catalog
from lakehouse.settings import settings
from lakehouse.warehouse.last_descriptions import keep_descriptions, last_described

NAMES = {"market": ["alpha_vantage", "binance", "wiki", "xetra"], "feed": ["iex"]}


@pytest.fixture
def defs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's files, as copies that a test may change."""
    folder = Path(shutil.copytree(catalog.DEFS, tmp_path / "defs"))
    monkeypatch.setattr(catalog, "DEFS", folder)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return folder


def names(kind: str) -> list[str]:
    catalog._described.cache_clear()
    return [source.name for source in last_described(kind, settings())]


def test_last_described__says_of_every_kind_what_its_file_said(defs: Path) -> None:
    said = {name: config for name, (_, config) in catalog.descriptions().found.items()}
    keep_descriptions(settings())
    assert names("market") == names("feed") == []
    for file in defs.rglob("defs.yaml"):
        file.write_text("type: lakehouse.components.MarketSource\n")
    for kind, wanted in NAMES.items():
        assert names(kind) == wanted
        for source in last_described(kind, settings()):
            assert source.config.model_dump() == said[source.name].model_dump()

    # A publication meanwhile keeps them; a file that is removed takes its source along.
    keep_descriptions(settings())
    (defs / "market" / "wiki" / "defs.yaml").unlink()
    assert names("market") == ["alpha_vantage", "binance", "xetra"]


@pytest.mark.parametrize("damage", ["", "{", '{"xetra": {"file": "x", "component": "y", "attributes": {}}}'])
def test_last_described__is_empty_where_nothing_can_be_read(damage: str, defs: Path) -> None:
    keep_descriptions(settings())
    (settings().home / "cache" / "descriptions.json").write_text(damage)
    (defs / "market" / "xetra" / "defs.yaml").write_text("")
    assert names("market") == []
