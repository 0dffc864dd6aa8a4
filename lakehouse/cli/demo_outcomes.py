"""What the demo prints of a run, and takes from its other processes."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from rich.console import Console

from lakehouse.errors import LakehouseError
from lakehouse.local_dagster.backfill import Outcome


class RunFailed(LakehouseError):
    """A run of the demo failed."""


def print_stage(console: Console, what: str, outcome: Outcome) -> None:
    """Prints how much a run received, and its failed checks.

    Raises:
        RunFailed: the run failed.
    """
    console.print(
        f"[bold]{what}[/]: {outcome.rows['received']:,} rows received in {sum(outcome.seconds.values()):.1f} s",
        highlight=False,
    )
    print_faults(console, outcome)


def print_faults(console: Console, outcome: Outcome) -> None:
    """Prints the failed checks of a run.

    Raises:
        RunFailed: the run failed.
    """
    for where, name, _, _, found in outcome.failed_checks:
        console.print(f"  [red]{where} {name}[/]: {found}", highlight=False)
    if outcome.error:
        raise RunFailed(f"run {outcome.run_id} failed: {outcome.error}")


def answer_of(process: subprocess.Popen[bytes], what: str) -> dict[str, Any]:
    """Waits for a process that plays `what`; the object that it printed as JSON.

    Raises:
        RunFailed: it ended by an error.
    """
    answer, _ = process.communicate()
    if process.returncode != 0:
        raise RunFailed(f"the process of {what} ended with status {process.returncode}; its reason is above")
    said: dict[str, Any] = json.loads(answer)
    return said
