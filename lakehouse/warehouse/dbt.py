"""Running dbt on the warehouse's models, in this process: a process of its own would pay for dbt's imports and
its manifest a second time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lakehouse.errors import LakehouseError
from lakehouse.lake.location import database_folder
from lakehouse.settings import PROJECT_ROOT, Settings, settings

PROJECT = PROJECT_ROOT / "dbt_project"
Event = dict[str, Any]
"""A dbt event as its structured log writes it: `info` and `data`."""


class DbtFailed(LakehouseError):
    """dbt could not do what it was asked for; the message has its own words."""


def target_folder(config: Settings) -> Path:
    """Where dbt keeps its manifest and compiled models: below the home, so that two lakes don't share what
    depends on their paths.
    """
    return config.home / "dbt"


def build_path(config: Settings) -> Path:
    """The private file that dbt builds into. It is always the same one: dbt parses the whole project again when
    it changes.
    """
    return database_folder(config.home / "dbt" / "build") / "warehouse.duckdb"


def run_dbt(
    arguments: Sequence[str], config: Settings, on_event: Callable[[Event], None] | None = None, **variables: str
) -> list[str]:
    """Runs a dbt command and returns what failed: one line an error or failed test, none when all went well.

    Args:
        arguments: such as `["build", "--select", "dim_venue"]`.
        on_event: gets every event as it comes.
        variables: environment variables for the models, such as LAKEHOUSE_AS_OF.

    Raises:
        DbtFailed: dbt could not run the command at all.
    """
    from dbt.cli.main import dbtRunner
    from google.protobuf.json_format import MessageToDict

    callbacks = [lambda event: on_event(MessageToDict(event, preserving_proto_field_name=True))] if on_event else []
    target = target_folder(config)
    # Writing the manifest costs a third of a build of few rows, and Dagster reads the one that `parse` wrote.
    written = [] if arguments[0] == "parse" else ["--no-write-json"]
    folders = [
        "--project-dir",
        str(PROJECT),
        "--profiles-dir",
        str(PROJECT),
        "--target-path",
        str(target),
        "--log-path",
        str(target / "logs"),
    ]
    place = {"LAKEHOUSE_HOME": str(config.home), "LAKEHOUSE_LAKE_URI": config.lake}
    with _environment(**place, LAKEHOUSE_WAREHOUSE_BUILD=str(build_path(config)), **variables):
        try:
            outcome = dbtRunner(callbacks=callbacks).invoke([*arguments, *folders, *written, "--log-level", "none"])
        finally:
            _close_database()
    if outcome.exception is not None:
        raise DbtFailed(f"dbt {arguments[0]}: {outcome.exception}") from outcome.exception
    results = getattr(outcome.result, "results", [])
    return [
        f"{result.node.name}: {result.message}"
        for result in results
        if result.status in ("error", "fail", "runtime error")
    ]


def _close_database() -> None:
    """Closes the DuckDB that dbt-duckdb keeps open in the process, with the views of the lake as it was then."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    if DuckDBConnectionManager._ENV is not None:
        DuckDBConnectionManager._ENV.close()
    DuckDBConnectionManager.close_all_connections()


def manifest_path(config: Settings) -> Path:
    """The project's manifest, made first where it is missing or older than a file of the project."""
    from filelock import FileLock

    manifest = target_folder(config) / "manifest.json"
    if not _is_current(manifest):
        manifest.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(manifest.with_suffix(".lock")):
            if not _is_current(manifest):
                run_dbt(["parse"], config)
    return manifest


def _is_current(manifest: Path) -> bool:
    if not manifest.exists():
        return False
    made = manifest.stat().st_mtime
    return all(path.stat().st_mtime <= made for path in PROJECT.rglob("*") if path.is_file())


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Inside the block the variables are set, and the process's settings are made from them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    settings.cache_clear()
    try:
        yield
    finally:
        settings.cache_clear()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
