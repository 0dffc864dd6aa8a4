"""The program `lakehouse`: its commands, which parse arguments, call the packages below and print. They contain no
other logic.

Dagster and dbt are imported inside the commands that need them, so that `sql` and `status` start fast.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer

from lakehouse.cli import banking_capture, overseeing  # noqa: F401  add their commands to `banking`
from lakehouse.cli.analyses import analyses_app
from lakehouse.cli.banking import banking_app
from lakehouse.cli.catalogue import catalog, describe, tables
from lakehouse.cli.check import check
from lakehouse.cli.contracts import contract_app
from lakehouse.cli.dashboard import dashboard
from lakehouse.cli.documents import documents_app
from lakehouse.cli.explained import console, explained, print_error, warn_of_broken_files
from lakehouse.cli.feeds import stream, watch
from lakehouse.cli.groups import GroupedProgram
from lakehouse.cli.identifiers import crosswalk, resolve
from lakehouse.cli.init import init
from lakehouse.cli.judgements import judgements_app
from lakehouse.cli.lineage import lineage
from lakehouse.cli.loading import backfill, reload, update
from lakehouse.cli.mcp import mcp
from lakehouse.cli.orders import orders_app
from lakehouse.cli.pseudonyms import pseudonyms_app
from lakehouse.cli.quality import quality
from lakehouse.cli.queries import plot, sql
from lakehouse.cli.release import release_app
from lakehouse.cli.retail import retail_app
from lakehouse.cli.roles import roles_app
from lakehouse.cli.simulate import simulate_app
from lakehouse.cli.source_list import sources
from lakehouse.cli.upkeep import migrate, rebuild, status
from lakehouse.cli.vendors import vendors_app


class Program(GroupedProgram):
    """The commands below, and the groups."""

    groups = (
        release_app,
        banking_app,
        documents_app,
        contract_app,
        analyses_app,
        orders_app,
        retail_app,
        pseudonyms_app,
        judgements_app,
        roles_app,
        vendors_app,
        simulate_app,
    )


app = typer.Typer(
    name="lakehouse",
    cls=Program,
    help="Market data from vendors' files to checked, partitioned, published tables.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
for command in (
    init,
    check,
    backfill,
    update,
    reload,
    sql,
    resolve,
    crosswalk,
    plot,
    status,
    quality,
    rebuild,
    migrate,
    stream,
    watch,
    dashboard,
    mcp,
):
    app.command()(command)
for of_catalogue in (sources, tables, describe, catalog, lineage):
    app.command()(of_catalogue)


def print_version(is_wanted: bool) -> None:
    """Prints the versions of Lakehouse and of what decides its results, and exits."""
    from importlib.metadata import version
    from platform import python_version

    if not is_wanted:
        return
    others = ", ".join(f"{name} {version(name)}" for name in ("dagster", "dbt-core", "duckdb", "deltalake"))
    console.print(f"lakehouse {version('lakehouse')} (Python {python_version()}, {others})", highlight=False)
    raise typer.Exit


@app.callback()
def each_command(
    context: typer.Context,
    of_version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    context.call_on_close(warn_of_broken_files)
    with explained():
        _log_to_file()


def _log_to_file() -> None:
    """Adds what the commands log to the log file, if there is one."""
    from lakehouse.settings import settings

    config = settings()
    if config.log_file is None:
        return
    import logging

    from lakehouse.logs import log_to_file

    logger = logging.getLogger("lakehouse")
    # Python's own way to the screen is for programs without any handler.
    on_screen = logging.StreamHandler()
    on_screen.setLevel(logging.WARNING)
    logger.addHandler(on_screen)
    log_to_file(logger, config.log_file, config.log_level, config.log_file_bytes, config.log_files_kept)


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Port of the UI on 127.0.0.1.")] = 3000,
    of_demo: Annotated[bool, typer.Option("--demo", help="Use the lake that `lakehouse demo` made.")] = False,
) -> None:
    """Start Dagster's UI and daemon on this lake, with the sensors running."""
    from lakehouse.cli.demo import played
    from lakehouse.local_dagster.dev import run_ui

    with explained(), played() if of_demo else nullcontext():
        run_ui(console, port)


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Random seed; another one plays another month.")] = 1,
) -> None:
    """Play an exchange for a month, run the whole pipeline on it, and show what came out."""
    from lakehouse.cli.demo import play
    from lakehouse.cli.demo_outcomes import RunFailed

    with explained():
        try:
            play(console, seed)
        except RunFailed as failure:
            print_error(failure)
            raise typer.Exit(1) from None
