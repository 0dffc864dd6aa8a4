"""Arrows between the rooms run one way, and what a notebook imports knows no orchestration."""

from __future__ import annotations

import ast
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import lakehouse

PACKAGE = Path(lakehouse.__file__).parent

# Room -> the rooms that it imports, at module level or inside a function.
ARROWS = {
    "settings": set(),
    "progress": set(),
    "simulators": set(),
    "market": set(),
    "lake": {"settings"},
    "sources": {"lake", "market", "printable", "settings"},
    "pipeline": {"lake", "market", "printable", "progress", "settings", "sources"},
    "warehouse": {"lake", "market", "settings", "sources"},
    "feeding": {"lake", "pipeline", "progress", "sources"},
    "components": {"event_log", "feeding", "lake", "market", "pipeline", "printable", "progress", "sources"},
    "defs": {"components", "lake", "pipeline", "run_history", "settings", "sources", "warehouse"},
    "definitions": {"run_processes", "settings", "sources"},
    "run_history": set(),
    "run_processes": set(),
    "event_log": {"lake"},
    "runs": {
        *("components", "definitions", "event_log", "lake", "pipeline", "progress", "run_history", "run_processes"),
        *("settings", "sources"),
    },
    "streaming": {"components", "event_log", "feeding", "lake", "runs", "settings", "sources"},
    "demo": {"components", "feeding", "lake", "runs", "settings", "simulators", "sources", "ui"},
    "ui": {"event_log", "run_processes", "runs", "settings"},
    "chart": {"lake", "sources"},
    "plot": {"chart", "printable"},
    "watching": {"chart", "lake", "pipeline", "sources"},
    "terminal": {"pipeline", "printable"},
    "printable": set(),
    "result_values": set(),
    "results": {"printable", "result_values"},
    "own_process": {"lake", "results", "settings"},
    "cli": {
        *("chart", "demo", "feeding", "lake", "own_process", "pipeline", "plot", "results", "runs", "settings"),
        *("sources", "streaming", "terminal", "ui", "warehouse", "watching"),
    },
}
ORCHESTRATION = {"components", "defs", "definitions", "event_log", "run_history", "run_processes", "runs"}
TERMINAL = {"cli", "demo", "results", "runs", "streaming", "terminal", "ui", "watching"}
HEAVY = {"dagster", "dagster_dbt", "dbt", "exchange_calendars", "matplotlib", "pandas"}


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
    """Every module of the package with its room."""
    paths = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]
    return {path: path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in paths}


def rooms_importing(library: str) -> set[str]:
    found = modules().items()
    return {room for path, room in found if any(name.split(".")[0] == library for name in imports(path))}


def test_the_arrows_are_these() -> None:
    found = defaultdict(set)
    for path, room in modules().items():
        found[room] |= {name.split(".")[1] for name in imports(path) if name.startswith("lakehouse.")} - {room}
    assert dict(found) == ARROWS


def test_no_arrow_runs_back() -> None:
    assert list(TopologicalSorter(ARROWS).static_order())


def test_orchestration_and_terminal_stay_in_their_rooms() -> None:
    assert rooms_importing("dagster") == ORCHESTRATION
    assert rooms_importing("dagster_duckdb") == {"components"}
    assert rooms_importing("dagster_dbt") == {"defs"}
    assert rooms_importing("dbt") == {"warehouse"}
    assert rooms_importing("typer") == {"cli"}
    assert rooms_importing("rich") == TERMINAL


def test_nothing_heavy_is_imported_at_module_level() -> None:
    """Start-up is what people wait for: what is heavy is imported by the function that needs it."""
    allowed = {
        room: {"dagster", "dagster_dbt"}
        for room in ("components", "defs", "definitions", "run_history", "run_processes")
    }
    for path, room in modules().items():
        if path.name == "dbt_plugin.py":
            continue  # dbt imports it when it runs
        heavy = {name.split(".")[0] for name in imports(path, module_level=True)} & HEAVY
        assert heavy <= allowed.get(room, set()), path
