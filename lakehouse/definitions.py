"""The code location: assembles what Dagster loads from `lakehouse.defs`."""

import logging
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import dagster as dg
from dagster_shared.record import replace

from lakehouse import defs as own
from lakehouse.catalog import DEFS, broken_files
from lakehouse.components.run_processes import one_process
from lakehouse.errors import SourceError
from lakehouse.settings import PROJECT_ROOT

_log = logging.getLogger(__name__)

# Dagster warns about its own use of a beta parameter when it merges asset checks; we can't avoid that here.
warnings.filterwarnings("ignore", category=dg.BetaWarning, message=".*execution_type.*")


@dg.definitions
def defs() -> dg.Definitions:
    """Makes the definitions. Steps run in one process, since starting one takes about as long as a step's work."""
    broken = broken_files()
    folder = _sound(broken) if broken else dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    return dg.Definitions.merge(folder, dg.Definitions(executor=one_process))


def _sound(broken: Mapping[Path, SourceError]) -> dg.Definitions:
    """The definitions of the valid files. Dagster loads a folder as a whole, so load each file's folder separately."""
    for error in broken.values():
        _log.error("%s. This source is left out until the file is corrected", error)
    folders = sorted({path.parent for name in ("*.py", "*.yaml") for path in DEFS.rglob(name)} - {DEFS})
    sound = [folder for folder in folders if folder / "defs.yaml" not in broken and "__pycache__" not in folder.parts]
    loaded = [
        dg.ComponentTree.from_module(
            defs_module=import_module(".".join((own.__name__, *folder.relative_to(DEFS).parts))),
            project_root=PROJECT_ROOT,
        ).build_defs()
        for folder in sound
    ]
    # Definitions that each have a tree can't be merged.
    return dg.Definitions.merge(*(replace(each, component_tree=None) for each in loaded))
