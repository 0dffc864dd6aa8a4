"""`lakehouse backfill`, `update` and `reload`: load objects and bring them through to the marts."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer
from rich.markup import escape

from lakehouse.cli.explained import console, explained, print_error
from lakehouse.cli.next_steps import try_next
from lakehouse.cli.options import SourceArgument, day


def backfill(
    source: SourceArgument,
    first: Annotated[
        date, typer.Option("--from", parser=day, metavar="DATE", help="First session, such as 2017-06-20.")
    ],
    last: Annotated[
        date | None, typer.Option("--to", parser=day, metavar="DATE", help="Last session; today by default.")
    ] = None,
) -> None:
    """Load, derive, check and publish all sessions from one date to another, in one process.

    Only what the lake doesn't have yet is loaded; a second run changes nothing.
    """
    from lakehouse.local_dagster.display import Display

    with explained():
        with Display(console) as display:
            from lakehouse.local_dagster.backfill import backfill_source, show_outcome

            outcome = backfill_source(source, first, last or date.today(), display)
        show_outcome(console, outcome)
    if not outcome.is_sound:
        raise typer.Exit(1)
    try_next(*_of_tables(source, outcome.made[0]))


def _of_tables(source: str, table: str) -> tuple[str, ...]:
    """Commands that show what was made of a source."""
    return f'sql "FROM {source}.{table} LIMIT 9"', f"tables {source}", "status"


def update(
    sources: Annotated[
        list[str] | None, typer.Argument(help="Names of sources; all that can be loaded by default.")
    ] = None,
) -> None:
    """Load, derive, check and publish what is new at the named sources, or at all sources.

    The sensors and schedules do the same while `lakehouse dev` runs.
    """
    from lakehouse.errors import LakehouseError
    from lakehouse.local_dagster.display import Display

    sound, made = True, list[tuple[str, str]]()
    with explained(), Display(console) as display:
        from lakehouse.local_dagster.backfill import Outcome, show_outcome
        from lakehouse.local_dagster.update import update_sources

        for name, done in update_sources(sources or [], display):
            if isinstance(done, Outcome):
                console.print(f"[bold]{name}[/]")
                show_outcome(console, done)
                sound &= done.is_sound
                made.append((name, done.made[0]))
            elif isinstance(done, LakehouseError):
                print_error(done)
                sound = False
            else:
                console.print(f"[bold]{name}[/]: {escape(done)}", highlight=False, soft_wrap=True)
    if not sound:
        raise typer.Exit(1)
    if made:
        try_next(*_of_tables(*made[0]))
    elif not sources:
        try_next("sources", "demo")


def reload(
    source: SourceArgument,
    first: Annotated[
        date | None, typer.Option("--from", parser=day, metavar="DATE", help="First session; all by default.")
    ] = None,
    last: Annotated[
        date | None, typer.Option("--to", parser=day, metavar="DATE", help="Last session; all by default.")
    ] = None,
) -> None:
    """After a fix of a source's YAML: reload the objects read with the old settings, then derive, check and publish.

    The earlier rows, including quarantined ones, are superseded; --as-of an earlier moment still shows them.
    """
    from lakehouse.local_dagster.display import Display

    with explained():
        with Display(console) as display:
            from lakehouse.local_dagster.backfill import reload_source, show_outcome

            outcome = reload_source(source, first, last, display)
        if outcome is None:
            console.print(f"{source}: nothing to read again, all objects were read by the present settings")
            return
        show_outcome(console, outcome)
    if not outcome.is_sound:
        raise typer.Exit(1)
