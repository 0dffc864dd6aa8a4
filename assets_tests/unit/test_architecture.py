"""The documentation names what exists: files, modules, functions and constants."""

from __future__ import annotations

import importlib
import re

import pytest

from lakehouse.settings import PROJECT_ROOT

TEXT = (PROJECT_ROOT / "docs" / "architecture.md").read_text()
PATHS = sorted(set(re.findall(r"`((?:lakehouse|assets_tests|dbt_project|docs)/[\w/.]+|\w+\.toml)`", TEXT)))
NAMES = sorted(set(re.findall(r"`(lakehouse\.[\w.]+)(?:\([^`]*\))?`", TEXT)))


@pytest.mark.parametrize("path", PATHS)
def test_a_path_exists(path: str) -> None:
    assert (PROJECT_ROOT / path).exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_dotted_name_exists(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)


def test_the_index_has_every_decision() -> None:
    folder = PROJECT_ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    for record in sorted(folder.glob("0*.md")):
        title = record.read_text().splitlines()[0].removeprefix("# ")
        assert f"- [{title}]({record.name})" in index


def test_most_of_the_package_is_named() -> None:
    assert len(PATHS) > 25
    assert len(NAMES) > 3
    packages = {path.name for path in (PROJECT_ROOT / "lakehouse").iterdir() if (path / "__init__.py").exists()}
    assert {name for name in packages if not re.search(rf"\b{name}\b", TEXT)} == set()
