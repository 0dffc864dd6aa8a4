"""The code location: assembles what Dagster loads from `lakehouse.defs` and from the user's own folder."""

import re
import sys
import warnings
from collections.abc import Mapping
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType

import dagster as dg
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext, DefinitionsLoadType
from dagster_shared.record import replace

from lakehouse import defs as own
from lakehouse.catalog import DEFS, analyses, defs_folders, descriptions, faulty_files, sources, warn_of
from lakehouse.components.run_logs import run_log
from lakehouse.components.run_processes import one_process
from lakehouse.errors import LakehouseError
from lakehouse.ingest.noted import Kept
from lakehouse.settings import PROJECT_ROOT, is_clone, settings

# Dagster warns about its own use of a beta parameter when it merges asset checks; we can't avoid that here.
warnings.filterwarnings("ignore", category=dg.BetaWarning, message=".*execution_type.*")
_USERS_PACKAGE = "lakehouse_users_defs"
_present: Kept[dg.Definitions] = Kept()


@dg.definitions
def defs() -> dg.Definitions:
    """The code location's definitions. In a clone Dagster's UI documents the types of components, too; a process that
    executes runs has no use for them, and keeps its definitions from run to run.
    """
    context = DefinitionsLoadContext.get() if DefinitionsLoadContext.is_set() else None
    is_for_runs = context is not None and context.load_type == DefinitionsLoadType.RECONSTRUCTION
    return present_definitions() if is_for_runs else assembled(with_types=is_clone())


def present_definitions() -> dg.Definitions:
    """The definitions as they are at present, for a process that executes runs. They take a second to make, so they are
    made again only where the settings have other values, or a source or an analysis is another object than the last
    time.
    """
    return _present.of(assembled, descriptions(), analyses(), *sources().values(), equal=settings())


def assembled(with_types: bool = False) -> dg.Definitions:
    """Makes the definitions. Steps run in one process, since starting one takes about as long as a step's work.

    Args:
        with_types: describe the types of components, for the UI alone: a fifth of the time.
    """
    faulty = {**faulty_files(), **analyses().broken}
    for error in faulty.values():
        warn_of(error)
    found = [_project(faulty, with_types), *(_users(folder, faulty) for folder in defs_folders() if folder != DEFS)]
    # Definitions that each have a tree can't be merged: the project's own keep theirs.
    others = dg.Definitions.merge(*map(_without_tree, found[1:]), *_shown(faulty))
    return dg.Definitions.merge(found[0], others, dg.Definitions(executor=one_process, loggers={"console": run_log}))


def _project(faulty: Mapping[Path, LakehouseError], with_types: bool) -> dg.Definitions:
    """The definitions of the project's files that are valid."""
    if any(path.is_relative_to(DEFS) for path in faulty):
        modules = [
            import_module(".".join((own.__name__, *folder.relative_to(DEFS).parts)))
            for folder in _sound_folders(DEFS, faulty)
        ]
        return dg.Definitions.merge(*(_without_tree(_loaded(module)) for module in modules))
    if with_types:
        return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    return _loaded(own)


def _users(folder: Path, faulty: Mapping[Path, LakehouseError]) -> dg.Definitions:
    """The definitions of the valid files in the user's folder, which is imported as a package."""
    folders = _sound_folders(folder, faulty) if any(path.is_relative_to(folder) for path in faulty) else [folder]
    made = [_loaded(_package(f"{_USERS_PACKAGE}_{number}", each)) for number, each in enumerate(folders)]
    return dg.Definitions.merge(*map(_without_tree, made))


def _sound_folders(root: Path, faulty: Mapping[Path, LakehouseError]) -> list[Path]:
    """The folders with files, without those whose YAML has a fault: Dagster loads a folder as a whole."""
    folders = sorted({path.parent for name in ("*.py", "*.yaml") for path in root.rglob(name)} - {root})
    return [folder for folder in folders if folder / "defs.yaml" not in faulty and "__pycache__" not in folder.parts]


def _loaded(module: ModuleType) -> dg.Definitions:
    # As `load_from_defs_folder` does: the components use what Dagster calls beta or a preview, knowingly.
    with warnings.catch_warnings():
        for category in (dg.BetaWarning, dg.PreviewWarning):
            warnings.simplefilter("ignore", category=category)
        tree = dg.ComponentTree.from_module(defs_module=module, project_root=PROJECT_ROOT)
        # The folder alone: for its root Dagster describes every type of component.
        return tree.build_defs(tree.defs_module_path)


def _package(name: str, folder: Path) -> ModuleType:
    """A package of a folder that is not on Python's path, whatever the folder is called."""
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    sys.modules[name] = module = module_from_spec(spec)
    return module


def _without_tree(found: dg.Definitions) -> dg.Definitions:
    return replace(found, component_tree=None)


def _shown(faulty: Mapping[Path, LakehouseError]) -> list[dg.Definitions]:
    """An asset in each faulty file's place that nothing makes: its description says why its assets are missing."""
    assets = [
        dg.AssetSpec(
            [name, "defs_yaml"],
            group_name=name,
            kinds={"yaml"},
            description=f"What this file describes is left out until it is corrected.\n\n{error}",
        )
        for path, error in faulty.items()
        for folder in [path.parent if path.name == "defs.yaml" else path]
        for name in [re.sub(r"\W", "_", folder.name, flags=re.ASCII) or "defs"]
    ]
    return [dg.Definitions(assets=assets)] if assets else []
