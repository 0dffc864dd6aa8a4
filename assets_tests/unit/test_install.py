"""`scripts/install.py`: uv asks the index that pip is configured for."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "install.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = spec_from_file_location("install", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_uv_variables__hands_on_every_option_that_decides_where_packages_come_from(script: ModuleType) -> None:
    configuration = """\
global.index-url='https://packages.example/pypi'
global.extra-index-url='https://one.example/a\\nhttps://two.example/b'
global.find-links='/wheels /more wheels'
global.trusted-host='packages.example'
global.quiet='1'
"""
    assert script.uv_variables(configuration, {}) == {
        "UV_DEFAULT_INDEX": "https://packages.example/pypi",
        "UV_INDEX": "https://one.example/a https://two.example/b",
        "UV_FIND_LINKS": "/wheels,/more,wheels",
        "UV_INSECURE_HOST": "packages.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_uv_variables__the_environment_outranks_the_files(script: ModuleType) -> None:
    configuration = """\
:env:.index-url='https://env.example'
global.index-url='https://global.example'
install.index-url='https://install.example'
"""
    assert script.uv_variables(configuration, {})["UV_DEFAULT_INDEX"] == "https://env.example"
    without = configuration.partition("\n")[2]
    assert script.uv_variables(without, {})["UV_DEFAULT_INDEX"] == "https://install.example"


def test_uv_variables__what_uv_was_told_directly_stays(script: ModuleType) -> None:
    configuration = "global.index-url='https://global.example'\n"
    environment = {"UV_DEFAULT_INDEX": "https://own.example", "UV_INDEX_STRATEGY": "first-index"}
    assert script.uv_variables(configuration, environment) == {}


def test_uv_variables__without_configuration_uv_uses_its_default_index(script: ModuleType) -> None:
    assert script.uv_variables("", {}) == {"UV_INDEX_STRATEGY": "unsafe-best-match"}


def test_uv_variables__understands_what_pip_prints(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://packages.example/it's here")
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    ).stdout
    # A blank separates indexes for pip as for uv.
    assert script.uv_variables(listed, {})["UV_DEFAULT_INDEX"] == "https://packages.example/it's here"


def test_locked_requirements__hold_hashes_and_no_address_of_an_index() -> None:
    for lock in sorted((SCRIPT.parents[1] / "requirements").glob("*.txt")):
        text = lock.read_text()
        assert "://" not in text, lock.name
        assert "index" not in text.replace("pyproject", ""), lock.name
        pinned = [block for block in text.split("\n") if block and not block.startswith((" ", "#"))]
        assert all("==" in line for line in pinned), lock.name
        assert text.count("--hash=sha256:") >= len(pinned), lock.name
