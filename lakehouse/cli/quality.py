"""`lakehouse quality`: what the checks found, and since when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from lakehouse.cli.explained import console, explained
from lakehouse.cli.options import AsOfOption

if TYPE_CHECKING:
    from lakehouse.governance.quality import CheckedRun, CheckState

_COLOURS = {"failed": "bold red", "warned": "yellow", "passed": "green"}


def quality(
    table: Annotated[
        str | None, typer.Argument(help="A table as <source>.<table> or marts.<model>, or a source; all by default.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Of a table: the newest runs to show.")] = 20,
    as_of: AsOfOption = None,
) -> None:
    """Show what the checks found: every check's newest result, failing ones first; of a table, run by run. The rows are
    in lake.check_results.
    """
    from lakehouse.api import Lake
    from lakehouse.governance.quality import checked_runs, states

    source, _, name = (table or "").partition(".")
    with explained():
        found = checked_runs(Lake.open(as_of=as_of), source or None, name or None)
        if not found:
            console.print(f"No results of checks{f' of {escape(table)}' if table else ''} are stored.", highlight=False)
            return
        console.print(_states(states(found)))
        if name:
            kept = list(dict.fromkeys(run.run_id for run in reversed(found)))[:runs]
            console.print(_runs([run for run in reversed(found) if run.run_id in kept]))


def _states(found: list[CheckState]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("", "check", "since", "runs", "not passed", "found"):
        table.add_column(column)
    for state in found:
        run = state.newest
        table.add_row(
            _outcome(run),
            escape(f"{run.source}.{run.table}: {run.check}"),
            f"{state.since:%Y-%m-%d %H:%M}",
            f"{state.runs:,}",
            f"{state.not_passed:,}",
            "" if run.passed else escape(run.summary),
        )
    return table


def _runs(found: list[CheckedRun]) -> Table:
    """Run by run, those first that did not pass in the run."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("evaluated at", "run", "", "check", "partitions", "found"):
        table.add_column(column)
    order = {run_id: number for number, run_id in enumerate(dict.fromkeys(run.run_id for run in found))}
    for run in sorted(found, key=lambda run: (order[run.run_id], run.passed)):
        at, summary = f"{run.at:%Y-%m-%d %H:%M:%S}", "" if run.passed else escape(run.summary)
        table.add_row(at, run.run_id[:8], _outcome(run), escape(run.check), run.scope, summary)
    return table


def _outcome(run: CheckedRun) -> str:
    return f"[{_COLOURS[run.outcome]}]{run.outcome}[/]"
