"""What the demo prints of a run."""

from __future__ import annotations

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
