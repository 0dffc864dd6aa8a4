"""The terminal's front door: `lakehouse backfill`, `reload`, `stream`, `watch`, `sql`, `plot`, `status`, `rebuild`,
`migrate`, `release`, `demo`. Commands parse, call the packages below, and print; they decide nothing.

Dagster and dbt are imported inside the commands that need them, so that `sql` and `status` start fast.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import date, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from lakehouse.cli.explained import (
    SIGINT_STATUS,
    console,
    errors,
    explained,
    is_ctrl_c,
    print_error,
    warn_of_broken_files,
)
from lakehouse.cli.release import release_app
from lakehouse.cli.render import print_feed_status, print_status
from lakehouse.cli.results import Format, end_quietly, format_of, partial_of, print_result

app = typer.Typer(
    name="lakehouse",
    help="Market data from vendors' files to checked, partitioned, published tables.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.add_typer(release_app)


@app.callback()
def each_command(context: typer.Context) -> None:
    context.call_on_close(warn_of_broken_files)


class Transport(StrEnum):
    """How a feed's quotes come."""

    poll = "poll"
    nats = "nats"


SourceArgument = Annotated[str, typer.Argument(help="Name of the source, such as xetra.")]


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is not a date; write it as 2017-06-20") from None


def _moment(text: str) -> datetime:
    from lakehouse.lake.sql import parse_moment

    try:
        return parse_moment(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


AsOfOption = Annotated[
    datetime | None,
    typer.Option(
        "--as-of",
        parser=_moment,
        metavar="TIMESTAMP",
        help="Answer with what the lake knew then (UTC unless an offset is given).",
    ),
]


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
    from lakehouse.local_dagster.backfill import Display, backfill_source, show_outcome

    with explained():
        with Display(console) as display:
            outcome = backfill_source(source, first, last or date.today(), display)
        show_outcome(console, outcome)
    if not outcome.is_sound:
        raise typer.Exit(1)


@app.command()
def update(
    sources: Annotated[
        list[str] | None, typer.Argument(help="Names of sources; all that can be loaded by default.")
    ] = None,
) -> None:
    """Load, derive, check and publish what is new at the named sources, or at all sources.

    The sensors and schedules do the same while `lakehouse dev` runs.
    """
    from lakehouse.errors import LakehouseError
    from lakehouse.local_dagster.backfill import Display, Outcome, show_outcome
    from lakehouse.local_dagster.update import update_sources

    sound = True
    with explained(), Display(console) as display:
        for name, done in update_sources(sources or [], display):
            if isinstance(done, Outcome):
                console.print(f"[bold]{name}[/]")
                show_outcome(console, done)
                sound &= done.is_sound
            elif isinstance(done, LakehouseError):
                print_error(done)
                sound = False
            else:
                console.print(f"[bold]{name}[/]: {escape(done)}", highlight=False, soft_wrap=True)
    if not sound:
        raise typer.Exit(1)


@app.command()
def reload(
    source: SourceArgument,
    first: Annotated[
        date | None, typer.Option("--from", parser=_day, metavar="DATE", help="First session; all by default.")
    ] = None,
    last: Annotated[
        date | None, typer.Option("--to", parser=_day, metavar="DATE", help="Last session; all by default.")
    ] = None,
) -> None:
    """After a fix of a source's YAML: reload the objects read with the old settings, then derive, check and publish.

    The earlier rows, including quarantined ones, are superseded; --as-of an earlier moment still shows them.
    """
    from lakehouse.local_dagster.backfill import Display, reload_source, show_outcome

    with explained():
        with Display(console) as display:
            outcome = reload_source(source, first, last, display)
        if outcome is None:
            console.print(f"{source}: nothing to read again, all objects were read by the present settings")
            return
        show_outcome(console, outcome)
    if not outcome.is_sound:
        raise typer.Exit(1)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="A DuckDB query over <source>.<table>, lake.<table> or marts.<model>.")],
    named_format: Annotated[
        Format | None,
        typer.Option("--format", help="Output format; by default from the output file's suffix, else a table."),
    ] = None,
    as_of: AsOfOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file instead of standard output.")
    ] = None,
    locked: Annotated[
        bool, typer.Option("--locked", help="For untrusted queries: allow only SELECT, with memory and time limits.")
    ] = False,
) -> None:
    """Query the lake in SQL. Tables: xetra.daily_bars, lake.quarantine, marts.fct_daily_bar, ..."""
    output_format = named_format or format_of(output)
    if output_format is Format.parquet and output is None and sys.stdout.isatty():
        raise typer.BadParameter("Parquet is binary: name a file with --output, or pipe it")
    answer = partial(_answer, query, output_format, output, as_of, locked=locked)
    if locked:
        from lakehouse.cli.own_process import run_in_own_process

        with explained():
            raise typer.Exit(run_in_own_process(partial(_exit_after, answer), output, print_error))
    answer()


def _exit_after(answer: Callable[[], None]) -> None:
    try:
        answer()
    except typer.Exit as ended:
        sys.exit(ended.exit_code)


def _answer(query: str, output_format: Format, output: Path | None, as_of: datetime | None, *, locked: bool) -> None:
    """Prints a query's result, or exits with its error."""
    import duckdb

    from lakehouse.api import Lake
    from lakehouse.errors import QueryNotAllowed
    from lakehouse.lake.engine import spill_folder
    from lakehouse.lake.locked import for_whole_process
    from lakehouse.settings import settings

    with explained():
        lake = Lake.open(settings(), as_of=as_of, locked=locked)
        try:
            with (
                for_whole_process(lake.limits) as lake.limits,
                lake.limits.explained() if lake.limits else nullcontext(),
            ):
                print_result(console, lake.sql(query), output_format, output)
        except BrokenPipeError:
            end_quietly()
        except (duckdb.Error, OSError, MemoryError, QueryNotAllowed) as error:
            print_error(error)
            raise typer.Exit(2) from None
        except (KeyboardInterrupt, RuntimeError) as error:
            if not is_ctrl_c(error):
                raise
            # DuckDB's threads may keep computing for minutes, and the interpreter would wait for them at exit.
            errors.print("Stopped.")
            shutil.rmtree(spill_folder(), ignore_errors=True)
            if output is not None:
                # Polars raises KeyboardInterrupt before Python does: the second may have ended the clean-up.
                partial_of(output, os.getpid()).unlink(missing_ok=True)
            os._exit(SIGINT_STATUS)


@app.command()
def plot(
    instrument: Annotated[str, typer.Argument(help="The instrument_id or the symbol.")],
    first: Annotated[date, typer.Option("--from", parser=_day, metavar="DATE", help="First session.")],
    last: Annotated[
        date,
        typer.Option("--to", parser=_day, metavar="DATE", help="Last session; a single session shows its minutes."),
    ],
    source: Annotated[str | None, typer.Option(help="Look in this source only.")] = None,
    currency: Annotated[str | None, typer.Option(help="Currency to show, if the instrument has several.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A .png or .html file; <INSTRUMENT>_<from>_<to>.png by default."),
    ] = None,
    adjusted: Annotated[
        bool, typer.Option("--adjusted", help="Adjust prices and volumes for splits and dividends.")
    ] = False,
    as_of: AsOfOption = None,
) -> None:
    """Draw an instrument's candlesticks and volume: minute bars of one session, or daily bars of several."""
    from lakehouse.api import Lake
    from lakehouse.catalog import source_named, sources_of
    from lakehouse.cli.plot import default_name, write
    from lakehouse.domains.market.bars.chart import read_chart

    target = output or Path(default_name(instrument, first, last))
    if target.suffix.lower() not in (".png", ".html"):
        raise typer.BadParameter(f"'{target}' is not a chart format; name a file that ends in .png or .html")
    if last < first:
        raise typer.BadParameter(f"--to {last} is before --from {first}; swap them")
    with explained():
        lake = Lake.open(as_of=as_of)
        loaded = lake.sources("market")
        sources = [source_named(source)] if source else [each for each in sources_of("market") if each.name in loaded]
        chart = read_chart(lake, sources, instrument, first, last, currency, adjusted=adjusted)
        try:
            write(chart, target)
        except OSError as error:
            print_error(error)
            raise typer.Exit(2) from None
    console.print(str(target), highlight=False, soft_wrap=True, markup=False)


@app.command()
def status() -> None:
    """Show per source: loaded, missing and failed sessions, and quarantined rows with reasons; also what is held back
    from the marts, and the last publication.
    """
    from lakehouse.api import Lake
    from lakehouse.catalog import sources_of
    from lakehouse.derive.held_back import holds
    from lakehouse.domains.market.bars.status import publication_of, status
    from lakehouse.domains.market.quotes.status import feed_status
    from lakehouse.errors import SourceError
    from lakehouse.lake.releases import release_in_use
    from lakehouse.settings import settings

    with explained():
        lake = Lake.present()
        console.print(f"lake: {escape(lake.uri)}", highlight=False, soft_wrap=True)
        for source in sources_of("market"):
            try:
                print_status(console, status(lake, source))
            except SourceError as error:
                print_error(error)
        for feed in sources_of("feed"):
            print_feed_status(console, feed_status(lake, feed))
        for hold in holds(lake):
            console.print(f"held back: {escape(str(hold))}", highlight=False, soft_wrap=True)
        if (served := release_in_use(settings())) is not None:
            console.print(f"release in use: {escape(served)}; the rest is about the present", highlight=False)
        console.print(f"marts: {escape(str(publication_of(lake)))}", highlight=False, soft_wrap=True)


@app.command()
def rebuild(
    source: SourceArgument,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Only compare; exit 1 if the stored tables differ from what raw_bars gives."),
    ] = False,
) -> None:
    """Derive everything again from raw_bars (for a feed: from its quotes), and the marts; write what differs."""
    from lakehouse.api import Lake
    from lakehouse.catalog import described_source
    from lakehouse.derive.held_back import check_again, holds
    from lakehouse.derive.rebuild import rebuild as rebuild_tables
    from lakehouse.lake.releases import present_marts
    from lakehouse.local_dagster.backfill import Display
    from lakehouse.settings import settings
    from lakehouse.warehouse.parts import part_of
    from lakehouse.warehouse.publish import differing_marts, publish

    with explained():
        known = described_source(source)
        with Display(console) as display:
            result = rebuild_tables(Lake.present(), known, verify=verify, progress=display.show)
            held = holds(Lake.present(), source) if verify else check_again(Lake.present(), known)
            display.show("marts", 0, 0)
            published = present_marts(settings()).exists()
            marts = differing_marts(settings(), part_of(known.kind)) if published or not verify else []
            if marts and not verify:
                publish(settings(), full_refresh=True)
        if result.objects_reordered:
            console.print(
                f"{source}: the version that was loaded last counts anew for {result.objects_reordered:,} objects",
                highlight=False,
            )
        for name, derived in result.tables.items():
            console.print(
                f"{source}.{name}: {derived.rows:,} rows, {derived.rows_changed:,} rows differ",
                highlight=False,
            )
        for hold in held:
            console.print(f"held back from the marts: {escape(str(hold))}", highlight=False)
        about = f"{', '.join(marts)} differ" if marts else "nothing differs" if published else "never published"
        console.print(f"marts: {about}", highlight=False)
    if verify and (result.differs or marts):
        errors.print(
            "[bold red]The stored tables are not what a rebuild gives.[/] "
            "Run the command without --verify to correct them."
        )
        raise typer.Exit(1)


@app.command()
def migrate(
    apply: Annotated[
        bool, typer.Option("--apply", help="Rewrite the tables; without it, they are only listed.")
    ] = False,
) -> None:
    """List the tables that an older version of Lakehouse wrote, and the changes they need; with --apply, make them.

    Each table is rewritten in one commit, so the command can be stopped at any time and run again.
    """
    from lakehouse.api import Lake
    from lakehouse.lake.migration import due, migrate_table
    from lakehouse.local_dagster.backfill import Display

    with explained():
        lake = Lake.present()
        found = due(lake)
        for table in found:
            console.print(str(table), highlight=False, soft_wrap=True, markup=False)
        if not found:
            console.print("Every table is as its contract says.")
        elif not apply:
            console.print("Nothing was changed; run [bold]lakehouse migrate --apply[/] to change it.", highlight=False)
        for table in found if apply else []:
            if table.steps is not None:
                with Display(console) as display:
                    rows = migrate_table(lake, table.name, progress=display.show)
                console.print(f"{table.name}: {rows:,} rows rewritten", highlight=False, soft_wrap=True, markup=False)
    if apply and any(table.steps is None for table in found):
        raise typer.Exit(1)


@app.command()
def stream(
    feed: Annotated[str | None, typer.Argument(help="Name of the feed; the only one by default.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Stop after this many rounds.")] = None,
    every: Annotated[
        float | None,
        typer.Option(min=0.1, max=86_400, metavar="SECONDS", help="Time between rounds, instead of the feed's own."),
    ] = None,
    transport: Annotated[
        Transport, typer.Option(help="Poll the vendor's API, or listen to a broker.")
    ] = Transport.poll,
) -> None:
    """Ingest a feed's quotes round by round and update their windows, until Ctrl-C or SIGTERM.

    Each quote is stored exactly once, even if this command is stopped, killed or run twice at the same time.
    """
    from lakehouse.catalog import feed_named
    from lakehouse.cli.stream import run_stream
    from lakehouse.domains.market.quotes.service import FeedStopped

    with explained():
        try:
            totals = run_stream(
                console, feed_named(feed), rounds=rounds, poll_interval_s=every, listens=transport is Transport.nats
            )
        except FeedStopped as stopped:
            print_error(stopped)
            raise typer.Exit(1) from None
    if totals.unanswered:
        errors.print("[bold red]Error[/] nothing was ever answered", highlight=False)
        raise typer.Exit(1)


@app.command()
def watch(
    feed: Annotated[str | None, typer.Argument(help="Name of the feed; the only one by default.")] = None,
    by_symbol: Annotated[
        bool, typer.Option("--by-symbol", help="Sort by symbol instead of the gain in the shortest window.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Print the current state and exit.")] = False,
) -> None:
    """Show a feed's newest quotes, gains, ranks and health, refreshed every second, until Ctrl-C.

    It reads only the lake's tables, so the feed may be streamed on another machine.
    """
    from lakehouse.catalog import feed_named
    from lakehouse.cli.watch import run_watch

    with explained():
        run_watch(console, feed_named(feed), once=once, by_symbol=by_symbol)


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Port of the UI on 127.0.0.1.")] = 3000,
    of_demo: Annotated[bool, typer.Option("--demo", help="Use the lake that `lakehouse demo` made.")] = False,
) -> None:
    """Start Dagster's UI and daemon on this lake, with the sensors running."""
    from lakehouse.cli.demo import RunFailed, use_played
    from lakehouse.local_dagster.dev import run_ui

    if of_demo:
        try:
            use_played()
        except RunFailed as failure:
            print_error(failure)
            raise typer.Exit(2) from None
    with explained():
        run_ui(console, port)


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Random seed; another one plays another month.")] = 1,
) -> None:
    """Play an exchange for a month, run the whole pipeline on it, and show what came out."""
    from lakehouse.cli.demo import RunFailed, play

    with explained():
        try:
            play(console, seed)
        except RunFailed as failure:
            print_error(failure)
            raise typer.Exit(1) from None
