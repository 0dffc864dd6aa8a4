"""Each library has its packages, and what is heavy is imported where it is needed. Which package may import which is
import-linter's matter (`lint-imports`, pyproject.toml).
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import lakehouse

ROOT = Path(lakehouse.__file__).parent
ORCHESTRATION = {"components", "defs", "definitions", "local_dagster"}
HEAVY = {"dagster", "dagster_dbt", "dbt", "exchange_calendars", "matplotlib", "pandas"}


@cache
def imports(path: Path, *, module_level: bool = False) -> set[str]:
    """The dotted names that a module imports; at module level only those that importing it executes."""
    tree = ast.parse(path.read_text())
    nodes: list[ast.AST] = list(ast.walk(tree))
    if module_level:
        nodes = list(tree.body)
    found = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found


def modules() -> dict[Path, str]:
    """Every module with its package, or its own name where it lies beside the packages."""
    paths = [path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py"]
    return {path: path.relative_to(ROOT).parts[0].removesuffix(".py") for path in paths}


def packages_importing(library: str) -> set[str]:
    found = modules().items()
    return {package for path, package in found if any(name.split(".")[0] == library for name in imports(path))}


def test_orchestration_and_terminal_stay_in_their_packages() -> None:
    assert packages_importing("dagster") == ORCHESTRATION
    assert packages_importing("dagster_duckdb") == {"components"}
    assert packages_importing("dagster_dbt") == {"components"}
    assert packages_importing("dbt") == {"warehouse"}
    assert packages_importing("typer") == {"cli"}
    assert packages_importing("rich") == {"cli", "local_dagster"}


def test_nothing_heavy_is_imported_at_module_level() -> None:
    """Start-up is what people wait for: what is heavy is imported by the function that needs it."""
    for path, package in modules().items():
        if path.name == "dbt_plugin.py":
            continue  # dbt imports it when it runs
        heavy = {name.split(".")[0] for name in imports(path, module_level=True)} & HEAVY
        allowed = {"dagster", "dagster_dbt"} if package in ORCHESTRATION else set()
        assert heavy <= allowed, path
