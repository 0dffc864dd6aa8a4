"""How light starting is: what a fresh interpreter imports for Dagster's code location, and for a question."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from assets_tests.conftest import PROJECT_ROOT

IMPORTED = "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with dbt's parsed project and the calendars, as it is from the first start on."""
    folder = tmp_path_factory.mktemp("home")
    loaded_modules(folder, "from lakehouse.definitions import defs; defs()")
    return folder


def loaded_modules(home: Path, program: str) -> set[str]:
    """The top-level packages that a fresh interpreter has imported after `program`."""
    environment = {"LAKEHOUSE_HOME": str(home), "PYTHON_DOTENV_DISABLED": "1"}
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{IMPORTED}"],
        cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_code_location_loads_without_what_only_runs_need(home: Path) -> None:
    loaded = loaded_modules(home, "from lakehouse.definitions import defs; defs()")
    assert {"dagster", "dagster_dbt"} <= loaded
    assert not loaded & {"pandas", "matplotlib", "exchange_calendars", "obstore", "dbt.cli"}


@pytest.mark.parametrize("command", [["sql", "SELECT 1"], ["status"]])
def test_questions_are_answered_without_dagster_and_dbt(home: Path, command: list[str]) -> None:
    program = f"from lakehouse.cli.app import app; app({command!r}, standalone_mode=False)"
    loaded = loaded_modules(home, program)
    assert "duckdb" in loaded
    assert not loaded & {"dagster", "dagster_dbt", "dbt", "pandas", "matplotlib", "exchange_calendars"}


def test_a_stored_table_is_shown_without_arrow_and_polars(home: Path) -> None:
    """Their imports take longer than the query."""
    opened = "from lakehouse.api import Lake; lake = Lake.present()"
    loaded_modules(home, f"{opened}; lake.table('ingest_ledger').snapshot().mark({{'a number': 1}})")
    assert (home / "lake" / "ingest_ledger" / "_delta_log").is_dir()
    command = ["sql", "FROM lake.ingest_ledger"]
    loaded = loaded_modules(home, f"from lakehouse.cli.app import app; app({command!r}, standalone_mode=False)")
    assert {"deltalake", "duckdb"} <= loaded
    assert not loaded & {"numpy", "polars", "pyarrow"}


def test_help_is_shown_without_what_reads_a_lake(home: Path) -> None:
    program = "from lakehouse.cli.app import app; app(['--help'], standalone_mode=False)"
    loaded = loaded_modules(home, f"{program}; import sys; assert 'lakehouse.analyses' not in sys.modules")
    assert "typer" in loaded
    assert not loaded & {"dagster", "deltalake", "duckdb", "numpy", "polars", "pyarrow", "pydantic"}
