"""The terminal's front door: `lakehouse backfill`, `sql`, `status`, `rebuild`, `demo`. Commands parse, call the
rooms, and print; they decide nothing.

Imports of Dagster and dbt stand inside the commands that need them: `sql` and `status` answer without.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    import duckdb

    from lakehouse.pipeline.status import Status

app = typer.Typer(
    name="lakehouse",
    help="Market data from vendors' files to checked, partitioned, published tables.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
console = Console()
errors = Console(stderr=True)

SourceArgument = Annotated[str, typer.Argument(help="Name of the source, such as xetra.")]


class Format(StrEnum):
    """How `lakehouse sql` prints its result."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no date; write it as 2017-06-20") from None


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"'{text}' is no timestamp; write it as 2026-11-20T18:00:00+00:00 (or a date)"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@app.command()
def backfill(
    source: SourceArgument,
    first: Annotated[
        date, typer.Option("--from", parser=_day, metavar="DATE", help="First session, such as 2017-06-20.")
    ],
    last: Annotated[
        date | None, typer.Option("--to", parser=_day, metavar="DATE", help="Last session; today by default.")
    ] = None,
) -> None:
    """Load, derive, check and publish all sessions from one date to another, in one process.

    Only what the lake doesn't have yet is loaded; a second run changes nothing.
    """
    from lakehouse.runs import Display, backfill_source, show_outcome

    with _explained():
        with Display(console) as display:
            outcome = backfill_source(source, first, last or date.today(), display)
        show_outcome(console, outcome)
    if not outcome.success or outcome.failed_checks:
        raise typer.Exit(1)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="A DuckDB query over <source>.<table>, lake.<table> and marts.<model>.")],
    output_format: Annotated[Format, typer.Option("--format", help="How to print the result.")] = Format.table,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            "--as-of",
            parser=_moment,
            metavar="TIMESTAMP",
            help="Answer with what the lake knew then (UTC unless an offset is given).",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file instead of standard output.")
    ] = None,
) -> None:
    """Ask the lake in SQL. All tables go by their names: xetra.daily_bars, lake.quarantine, marts.fct_daily_bar, ..."""
    import duckdb

    from lakehouse.lake.lake import Lake
    from lakehouse.settings import settings

    with _explained():
        try:
            relation = Lake.open(settings(), as_of=as_of).sql(query)
            _print_relation(relation, output_format, output)
        except (duckdb.Error, OSError) as error:
            _print_error(error)
            raise typer.Exit(2) from None


def _print_relation(relation: duckdb.DuckDBPyRelation | None, output_format: Format, output: Path | None) -> None:
    if relation is None:
        return
    if output_format is Format.table and output is None:
        # A terminal gets what fits; a pipe gets every row and column.
        relation.show(max_width=console.width, max_rows=60) if console.is_terminal else relation.show(
            max_width=100_000, max_rows=1_000_000
        )
        return
    if output_format is Format.csv:
        # CSV knows no lists: they are written as JSON.
        nested = {
            name
            for name, kind in zip(relation.columns, relation.types, strict=True)
            if kind.id in ("list", "array", "struct", "map", "union")
        }
        quoted = {name: '"' + name.replace('"', '""') + '"' for name in relation.columns}
        relation = relation.project(
            ", ".join(f"to_json({text}) AS {text}" if name in nested else text for name, text in quoted.items())
        )
    frame = relation.pl()
    target: Any = output or sys.stdout.buffer
    if output_format is Format.json:
        frame.write_json(target)
    elif output_format is Format.parquet:
        if output is None and sys.stdout.isatty():
            raise typer.BadParameter("Parquet is binary: name a file with --output, or pipe it")
        frame.write_parquet(target)
    else:
        frame.write_csv(target)


@app.command()
def status() -> None:
    """Per source: sessions loaded, missing and failed, what the quarantine holds and why, and the last publication."""
    from lakehouse.lake.lake import Lake
    from lakehouse.pipeline.status import last_published, status
    from lakehouse.sources.config import configured_sources

    with _explained():
        lake = Lake.open()
        for config in configured_sources().values():
            _print_status(status(lake, config))
        published = last_published(lake)
        console.print(
            f"marts: {f'published {published:%Y-%m-%d %H:%M:%S} UTC' if published else 'never published'}",
            highlight=False,
        )


def _print_status(found: Status) -> None:
    console.rule(f"[bold]{found.source}", align="left")
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    span = f" ({found.first_session} to {found.last_session})" if found.sessions_loaded else ""
    table.add_row("sessions loaded", f"{found.sessions_loaded:,}{span}")
    table.add_row("sessions missing", _listed([str(session) for session in found.missing]))
    table.add_row(
        "sessions incomplete", _listed([f"{session}: {', '.join(what)}" for session, what in found.incomplete.items()])
    )
    table.add_row("objects", ", ".join(f"{count:,} {name}" for name, count in sorted(found.objects.items())) or "none")
    table.add_row("rows received", f"{found.rows_received:,}")
    table.add_row("failed objects", _listed([f"{entry['object']}: {entry['error']}" for entry in found.failed_objects]))
    table.add_row(
        "quarantine",
        _listed(
            [f"{entry['rows']:,}  {entry['reason']} (last: {entry['last_session']})" for entry in found.quarantine]
        ),
    )
    console.print(table)


def _listed(entries: list[str], shown: int = 12) -> str:
    if not entries:
        return "none"
    more = [f"... and {len(entries) - shown} more"] if len(entries) > shown else []
    return escape("\n".join(entries[:shown] + more))


@app.command()
def rebuild(
    source: SourceArgument,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Only compare; exit 1 if the stored tables differ from what raw_bars gives."),
    ] = False,
) -> None:
    """Derive bars, daily bars and marts from raw_bars again, and write what differs."""
    from lakehouse.lake.lake import Lake
    from lakehouse.pipeline.rebuild import rebuild as rebuild_tables
    from lakehouse.runs import Display
    from lakehouse.settings import settings
    from lakehouse.sources.config import source_named
    from lakehouse.warehouse.publish import differing_marts, publish

    with _explained():
        config = source_named(source)
        with Display(console) as display:
            result = rebuild_tables(Lake.open(), config, verify=verify, progress=display.show)
            display.show("marts", 0, 0)
            marts = differing_marts(settings())
            if marts and not verify:
                publish(settings(), full_refresh=True)
        tables = {"bars": result.bars, "daily_bars": result.daily_bars}
        for name, derived in tables.items():
            console.print(
                f"{source}.{name}: {derived.rows:,} rows in {result.sessions:,} sessions, "
                f"{derived.rows_changed:,} rows differ",
                highlight=False,
            )
        console.print(f"marts: {', '.join(marts) + ' differ' if marts else 'nothing differs'}", highlight=False)
    if verify and (result.differs or marts):
        errors.print(
            "[bold red]The stored tables are not what raw_bars gives.[/] Run the command without --verify to mend them."
        )
        raise typer.Exit(1)


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Port of the UI on 127.0.0.1.")] = 3000,
) -> None:
    """Start Dagster's UI and daemon on this lake, with the sensors running."""
    import os

    from lakehouse.runs import prepared_home
    from lakehouse.settings import PROJECT_ROOT, settings

    home = prepared_home(settings())
    # Dagster's processes must mean the same folder, wherever they run.
    os.environ["LAKEHOUSE_HOME"] = str(settings().home)
    console.print(
        f"Dagster's UI: http://127.0.0.1:{port}   (lake: {settings().lake}, DAGSTER_HOME: {home})", highlight=False
    )
    dagster = str(Path(sys.executable).with_name("dagster"))
    workspace = str(PROJECT_ROOT / "workspace.yaml")
    os.execv(dagster, [dagster, "dev", "--workspace", workspace, "--host", "127.0.0.1", "--port", str(port)])


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Another seed plays another month.")] = 1,
) -> None:
    """Play an exchange for a month, run the whole pipeline on it, and show what came out."""
    from lakehouse.demo import RunFailed, play

    with _explained():
        try:
            play(console, seed)
        except RunFailed as failure:
            errors.print(f"[bold red]Error[/] {failure}", highlight=False)
            raise typer.Exit(1) from None


@contextmanager
def _explained() -> Iterator[None]:
    """Ends the command with an error's own words, without a traceback, where the error explains itself."""
    from lakehouse.lake.contract import ContractError
    from lakehouse.lake.table import LakeUnavailable, TableMissing
    from lakehouse.sources.config import SourceError
    from lakehouse.sources.objects import SourceUnavailable
    from lakehouse.warehouse.dbt import DbtFailed
    from lakehouse.warehouse.publish import AuditFailed

    try:
        yield
    except (
        ContractError,
        LakeUnavailable,
        TableMissing,
        SourceError,
        SourceUnavailable,
        AuditFailed,
        DbtFailed,
    ) as error:
        _print_error(error)
        raise typer.Exit(2) from None


def _print_error(error: Exception) -> None:
    errors.print(f"[bold red]Error[/] {escape(str(error))}", highlight=False, soft_wrap=True)
