"""The wheel has all that a clone has: a source is brought to the marts in a folder that has nothing of the project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import duckdb
import pytest

from assets_tests.conftest import PROJECT_ROOT
from assets_tests.support.exchange_lake import ExchangeLake
from lakehouse.simulators.truth import Stage

PARTS = ("lakehouse", "dbt_project", "dagster.yaml", "workspace.yaml", "pyproject.toml", "setup.py")
TEXTS = ("README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment's folder of programs: the wheel, beside the packages of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    made = shutil.ignore_patterns("__pycache__", "target", "logs", ".user.yml", "*.egg-info")
    for name in (*PARTS, *TEXTS):
        if (PROJECT_ROOT / name).is_dir():
            shutil.copytree(PROJECT_ROOT / name, source / name, ignore=made)
        else:
            shutil.copyfile(PROJECT_ROOT / name, source / name)
    uv = str(Path(sys.executable).with_name("uv"))
    build = [uv, "build", "--wheel", "--quiet", "--offline", "--no-build-isolation", "--python", sys.executable]
    subprocess.run([*build, "--out-dir", str(folder), "."], cwd=source, check=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "environment", symlinks=True)
    programs = folder / "environment" / "bin"
    places = {"base": str(folder / "environment"), "platbase": str(folder / "environment")}
    packages = Path(sysconfig.get_path("purelib", vars=places))
    # Paths that a .pth file adds are not searched for further ones, so that this clone's editable installation is out.
    (packages / "shared.pth").write_text(sysconfig.get_path("purelib"))
    install = [uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--compile-bytecode"]
    subprocess.run([*install, "--python", str(programs / "python"), str(wheel)], check=True)
    return programs


def test_update__brings_a_source_to_the_marts_outside_a_clone(
    installed: Path, exchange_lake: ExchangeLake, tmp_path: Path
) -> None:
    stages: tuple[Stage, ...] = ("first", "late", "repaired")
    for stage in stages:
        exchange_lake.exchange.write(exchange_lake.feed, stage)
    empty, data = tmp_path / "empty", tmp_path / "data"
    empty.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))}
    of_user = {"XDG_DATA_HOME": str(data), "LAKEHOUSE_XETRA_URL": str(exchange_lake.feed)}

    def said(*arguments: str) -> str:
        command = [installed / "lakehouse", *arguments]
        done = subprocess.run(command, cwd=empty, env={**kept, **of_user}, capture_output=True, text=True)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    said("update", "xetra")
    with duckdb.connect(str(data / "lakehouse" / "warehouse.duckdb"), read_only=True) as marts:
        (rows,) = marts.execute("SELECT count(*) FROM marts.fct_daily_bar").fetchall()
    assert rows == (exchange_lake.exchange.truth.daily_bars("first", "late", "repaired").height,)

    # What people add is beside their lake, not in the installed package.
    said("vendors", "add", "kraken")
    assert (data / "lakehouse" / "defs" / "kraken" / "defs.yaml").is_file()
    listed = [line.split(",") for line in said("sources", "--format", "csv").splitlines()]
    files = {line[0]: Path(line[-1]) for line in listed[1:]}
    assert files["kraken"].is_relative_to(data)
    assert files["xetra"].is_relative_to(installed.parent)
    assert list(empty.iterdir()) == []
