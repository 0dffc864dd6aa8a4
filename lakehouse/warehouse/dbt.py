"""Runs dbt on the warehouse's models, in this process: another process would import dbt and read the manifest again.

dbt's variables name the installation: its home, its lake and the private file. They are the same in every run, because
dbt parses the whole project again if a variable changes; what changes from run to run is noted in the private file (see
`reading`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from lakehouse.errors import LakehouseError
from lakehouse.lake.location import database_folder
from lakehouse.settings import PROJECT_ROOT, Settings

PROJECT = PROJECT_ROOT / "dbt_project"
Event = dict[str, Any]
"""A dbt event as in its structured log: `info` and `data`."""


class DbtFailed(LakehouseError):
    """dbt could not run a command; the message has dbt's own text."""


def target_folder(config: Settings) -> Path:
    """Where dbt keeps its manifest and compiled models: below the home, since they depend on its paths."""
    return config.home / "dbt"


def build_path(config: Settings) -> Path:
    """The private file that dbt builds into."""
    return database_folder(config.home / "dbt" / "build") / "warehouse.duckdb"


def variables(config: Settings, build: Path) -> list[str]:
    """The arguments that tell dbt which installation it works for, and the private file to build into."""
    return ["--vars", json.dumps({"home": str(config.home), "lake": config.lake, "build": str(build)})]


def run_dbt(arguments: Sequence[str], config: Settings, on_event: Callable[[Event], None] | None = None) -> list[str]:
    """Runs a dbt command. Returns one line per error or failed test.

    Args:
        arguments: such as `["build", "--select", "dim_venue"]`.
        on_event: is called with every event.

    Raises:
        DbtFailed: dbt could not run the command at all.
    """
    from dbt.cli.main import dbtRunner
    from google.protobuf.json_format import MessageToDict

    callbacks = [lambda event: on_event(MessageToDict(event, preserving_proto_field_name=True))] if on_event else []
    target = target_folder(config)
    # Writing the manifest takes a third of a small build's time, and Dagster reads the one that `parse` wrote.
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
    said = [*arguments, *folders, *variables(config, build_path(config)), *written, "--log-level", "none"]
    try:
        outcome = dbtRunner(callbacks=callbacks).invoke(said)
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
    """Closes the DuckDB that dbt-duckdb keeps open in the process: its views show the lake as of this run."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    if DuckDBConnectionManager._ENV is not None:
        DuckDBConnectionManager._ENV.close()
    DuckDBConnectionManager.close_all_connections()


def manifest_path(config: Settings) -> Path:
    """The project's manifest; made first if it is missing or of other files than the project's.

    Times of files don't tell: another version of Lakehouse, with its own project, may have used the home meanwhile.
    """
    from filelock import FileLock

    manifest = target_folder(config) / "manifest.json"
    made_of, project = manifest.with_name("made_of"), digest_of_project()

    def is_current() -> bool:
        return manifest.exists() and made_of.exists() and made_of.read_text() == project

    if not is_current():
        manifest.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(manifest.with_suffix(".lock")):
            if not is_current():
                # Removed first, so that a parse that is cut off is repeated.
                made_of.unlink(missing_ok=True)
                run_dbt(["parse"], config)
                made_of.write_text(project)
    return manifest


def digest_of_project() -> str:
    """A digest of the names and contents of the dbt project's files."""
    return digest_of_files(PROJECT, (path for path in PROJECT.rglob("*") if path.is_file()))


def digest_of_files(folder: Path, files: Iterable[Path]) -> str:
    """A digest of the names, from `folder` on, and the contents of files."""
    digest = hashlib.sha256()
    for path in sorted(files):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()
