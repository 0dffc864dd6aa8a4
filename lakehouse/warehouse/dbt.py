"""Runs dbt on the warehouse's models, in this process: another process would import dbt and read the manifest again.

dbt's variables name the installation: its home, its lake and the private file. What changes from run to run is noted in
the private file (see `reading`). The project is parsed once, whatever the variables are, and commands are given the
manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.errors import LakehouseError
from lakehouse.lake.location import database_folder
from lakehouse.settings import Settings, beside_package, is_clone

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

PROJECT = beside_package("dbt_project")
Event = Any
"""A dbt event: `info`, with its `name` and `msg`, and `data`, whose fields depend on the name."""


class DbtFailed(LakehouseError):
    """dbt could not run a command; the message has dbt's own text."""


def target_folder(config: Settings) -> Path:
    """Where dbt keeps compiled models: below the home, since they depend on its paths."""
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
    # Writing the manifest takes a third of a small build's time.
    written = [*arguments, "--no-write-json"]
    results = getattr(_invoke(written, config, target_folder(config), manifest(config), on_event), "results", [])
    return [
        f"{result.node.name}: {result.message}"
        for result in results
        if result.status in ("error", "fail", "runtime error")
    ]


def compile_models(config: Settings, manifest_of: Settings) -> dict[str, str]:
    """The SQL of every model, by its name, as it runs on the lake of `config`. The project is parsed for another home.

    Raises:
        DbtFailed: dbt could not compile them.
    """
    arguments = ["compile", "--no-write-json", "--select", "resource_type:model"]
    results = getattr(_invoke(arguments, config, target_folder(config), manifest(manifest_of)), "results", [])
    return {result.node.name: result.node.compiled_code for result in results if result.node.resource_type == "model"}


def project_digest() -> str:
    """A digest of the project's files and of dbt."""
    return _made_of()


def beside_manifest(config: Settings, name: str) -> Path:
    """A file that is kept beside the project's manifest, for all homes."""
    return _prepared(config) / name


def keep_newest(folder: Path, pattern: str, most: int) -> None:
    """Deletes all but the newest files of a pattern: homes with other sources share the folder, and code changes."""
    for file in sorted(folder.glob(pattern), key=os.path.getmtime)[:-most]:
        file.unlink(missing_ok=True)


def as_dict(event: Event) -> dict[str, Any]:
    """A dbt event as in its structured log, which is what dagster-dbt reads."""
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(event, preserving_proto_field_name=True)


def _invoke(
    arguments: Sequence[str],
    config: Settings,
    target: Path,
    parsed: Manifest | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> object:
    """The result of a dbt command that keeps its files in the folder `target`."""
    from dbt.cli.main import dbtRunner

    folders = [
        "--project-dir",
        str(PROJECT),
        "--profiles-dir",
        str(PROJECT),
        "--target-path",
        str(target),
        "--log-path",
        str(target_folder(config) / "logs"),
    ]
    logs = ["--log-level", "none", "--log-level-file", "warn"]
    said = [*arguments, *folders, *variables(config, build_path(config)), *logs]
    try:
        outcome = dbtRunner(manifest=parsed, callbacks=[on_event] if on_event else []).invoke(said)
    finally:
        _close_database()
    if outcome.exception is not None:
        raise DbtFailed(f"dbt {arguments[0]}: {outcome.exception}") from outcome.exception
    return outcome.result


def _close_database() -> None:
    """Closes the DuckDB that dbt-duckdb keeps open in the process: its views show the lake as of this run."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    if DuckDBConnectionManager._ENV is not None:
        DuckDBConnectionManager._ENV.close()
    DuckDBConnectionManager.close_all_connections()


def manifest_path(config: Settings) -> Path:
    """The project's manifest as dbt's JSON; made first if it is missing or of other files than the project's."""
    return _prepared(config) / "manifest.json"


def manifest(config: Settings) -> Manifest:
    """The project's manifest for a command of dbt, which writes in it: each command needs its own."""
    from dbt.contracts.graph.manifest import Manifest
    from dbt.parser.manifest import extended_mashumuro_decoder

    return Manifest.from_msgpack((_prepared(config) / _PARSED).read_bytes(), decoder=extended_mashumuro_decoder)


_PARSED = "partial_parse.msgpack"


def _prepared(config: Settings) -> Path:
    """The folder with what dbt made of the project's files, which it does first if they are others.

    It is beside the project, for all homes: parsing takes five seconds of a core, and dbt does it again for other
    variables, which don't change the manifest. Where the project can't be written to, it is below the home. Times of
    files don't tell whether it is current: another version of Lakehouse may have used the home meanwhile.
    """
    from filelock import FileLock

    shared, project = PROJECT / "target" / "lakehouse", _made_of()
    if _is_current(shared, project):
        return shared
    folder = shared if is_clone() and _is_writable(shared) else target_folder(config)
    if not _is_current(folder, project):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "manifest.lock"):
            if not _is_current(folder, project):
                # Removed first, so that a parse that is cut off is repeated.
                (folder / _MADE_OF).unlink(missing_ok=True)
                _invoke(["parse"], config, folder)
                (folder / _MADE_OF).write_text(project)
    return folder


_MADE_OF = "made_of"


def _made_of() -> str:
    return " ".join([digest_of_project(), *(version(name) for name in ("dbt-core", "dbt-duckdb"))])


def _is_current(folder: Path, project: str) -> bool:
    made = folder / _MADE_OF
    return made.is_file() and made.read_text() == project


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def digest_of_project() -> str:
    """A digest of the names and contents of the dbt project's files, without those that dbt made of them."""
    made = {PROJECT / name for name in ("target", "logs", ".user.yml")}
    return digest_of_files(
        PROJECT, (path for path in PROJECT.rglob("*") if path.is_file() and made.isdisjoint([path, *path.parents]))
    )


def digest_of_files(folder: Path, files: Iterable[Path]) -> str:
    """A digest of the names, from `folder` on, and the contents of files."""
    digest = hashlib.sha256()
    for path in sorted(files):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()
