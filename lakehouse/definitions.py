"""The roof: assembles what Dagster loads from `lakehouse.defs`, and nothing else."""

import warnings
from pathlib import Path

import dagster as dg

from lakehouse.run_processes import one_process

# Dagster warns about its own use of a beta parameter wherever asset checks are merged; nobody can do anything
# about it here.
warnings.filterwarnings("ignore", category=dg.BetaWarning, message=".*execution_type.*")


@dg.definitions
def defs() -> dg.Definitions:
    """Steps run in one process: a step's work takes about as long as the start of a process of its own."""
    folder = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    return dg.Definitions.merge(folder, dg.Definitions(executor=one_process))
