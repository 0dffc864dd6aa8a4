"""The code location: assembles what Dagster loads from `lakehouse.defs`."""

import re
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import dagster as dg
from dagster_shared.record import replace

from lakehouse import defs as own
from lakehouse.catalog import DEFS, analyses, faulty_files, warn_of
from lakehouse.components.run_processes import one_process
from lakehouse.errors import LakehouseError
from lakehouse.settings import PROJECT_ROOT

# Dagster warns about its own use of a beta parameter when it merges asset checks; we can't avoid that here.
warnings.filterwarnings("ignore", category=dg.BetaWarning, message=".*execution_type.*")


@dg.definitions
def defs() -> dg.Definitions:
    """Makes the definitions. Steps run in one process, since starting one takes about as long as a step's work."""
    faulty = {**faulty_files(), **analyses().broken}
    folder = _sound(faulty) if faulty else dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    return dg.Definitions.merge(folder, dg.Definitions(executor=one_process))


def _sound(faulty: Mapping[Path, LakehouseError]) -> dg.Definitions:
    """The definitions of the valid files, and an asset per faulty file that shows its error. Dagster loads a folder as
    a whole, so load each file's folder separately.
    """
    for error in faulty.values():
        warn_of(error)
    folders = sorted({path.parent for name in ("*.py", "*.yaml") for path in DEFS.rglob(name)} - {DEFS})
    sound = [folder for folder in folders if folder / "defs.yaml" not in faulty and "__pycache__" not in folder.parts]
    loaded = [
        dg.ComponentTree.from_module(
            defs_module=import_module(".".join((own.__name__, *folder.relative_to(DEFS).parts))),
            project_root=PROJECT_ROOT,
        ).build_defs()
        for folder in sound
    ]
    # Definitions that each have a tree can't be merged.
    errors = dg.Definitions(assets=[_shown(path, error) for path, error in faulty.items()])
    return dg.Definitions.merge(*(replace(each, component_tree=None) for each in loaded), errors)


def _shown(path: Path, error: LakehouseError) -> dg.AssetSpec:
    """An asset that nothing makes, in the file's place: its description says why its assets are missing."""
    name = re.sub(r"\W", "_", path.parent.name, flags=re.ASCII) or "defs"
    return dg.AssetSpec(
        [name, "defs_yaml"],
        group_name=name,
        kinds={"yaml"},
        description=f"What this file describes is left out until it is corrected.\n\n{error}",
    )
