"""`lakehouse sql` and `plot`: what the lake holds, as rows or as a chart."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lakehouse.cli.explained import SIGINT_STATUS, console, errors, explained, is_ctrl_c, print_error
from lakehouse.cli.options import AsOfOption, day
from lakehouse.cli.results import Format, end_quietly, format_of, partial_of, print_result


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
    role: Annotated[
        str | None, typer.Option("--role", metavar="NAME", help="Answer from what is published for this role only.")
    ] = None,
) -> None:
    """Query the lake in SQL. Tables: xetra.daily_bars, lake.quarantine, marts.fct_daily_bar, ..."""
    output_format = named_format or format_of(output)
    if output_format is Format.parquet and output is None and sys.stdout.isatty():
        raise typer.BadParameter("Parquet is binary: name a file with --output, or pipe it")
    if role is not None and as_of is not None:
        raise typer.BadParameter("a role's file holds one state, without past ones: leave out --as-of")
    answer = partial(_answer, query, output_format, output, as_of, locked=locked, role=role)
    if locked or role is not None:
        from lakehouse.cli.own_process import run_in_own_process

        with explained():
            raise typer.Exit(run_in_own_process(partial(_exit_after, answer), output, print_error))
    answer()


def _exit_after(answer: Callable[[], None]) -> None:
    try:
        answer()
    except typer.Exit as ended:
        sys.exit(ended.exit_code)


def _answer(
    query: str,
    output_format: Format,
    output: Path | None,
    as_of: datetime | None,
    *,
    locked: bool,
    role: str | None = None,
) -> None:
    """Prints a query's result, or exits with its error."""
    import duckdb

    from lakehouse.api import Lake
    from lakehouse.errors import QueryNotAllowed
    from lakehouse.governance.role_lake import RoleLake
    from lakehouse.lake.engine import spill_folder
    from lakehouse.lake.locked import for_whole_process
    from lakehouse.settings import settings

    with explained():
        lake: Lake | RoleLake = (
            Lake.open(settings(), role=role) if role is not None else Lake.open(settings(), as_of=as_of, locked=locked)
        )
        try:
            with ExitStack() as bounds:
                if lake.limits is not None:
                    lake.limits = bounds.enter_context(for_whole_process(lake.limits))
                    bounds.enter_context(lake.limits.explained())
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


def plot(
    instrument: Annotated[str, typer.Argument(help="The instrument_id or the symbol.")],
    first: Annotated[date, typer.Option("--from", parser=day, metavar="DATE", help="First session.")],
    last: Annotated[
        date,
        typer.Option("--to", parser=day, metavar="DATE", help="Last session; a single session shows its minutes."),
    ],
    source: Annotated[str | None, typer.Option(help="Look in this source only.")] = None,
    currency: Annotated[str | None, typer.Option(help="Currency to show, if the instrument has several.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A .html, .svg or .png file; <INSTRUMENT>_<from>_<to>.png by default."),
    ] = None,
    adjusted: Annotated[
        bool,
        typer.Option("--adjusted/--raw", help="Adjust prices and volumes for splits and dividends; a page has both."),
    ] = False,
    log: Annotated[bool, typer.Option("--log", help="Draw prices on a logarithmic axis.")] = False,
    as_of: AsOfOption = None,
) -> None:
    """Draw an instrument's candlesticks and volume: minute bars of one session, or daily bars of several. A .html file
    is interactive: hover, zoom, drag.
    """
    from lakehouse.api import Lake
    from lakehouse.catalog import source_named, sources_of
    from lakehouse.cli.plot import default_name, write
    from lakehouse.domains.market.bars.chart import read_bases, read_chart

    target = output or Path(default_name(instrument, first, last))
    if target.suffix.lower() not in (".png", ".svg", ".html"):
        raise typer.BadParameter(f"'{target}' is not a chart format; name a file that ends in .html, .svg or .png")
    if last < first:
        raise typer.BadParameter(f"--to {last} is before --from {first}; swap them")
    with explained():
        lake = Lake.open(as_of=as_of)
        loaded = lake.sources("market")
        sources = [source_named(source)] if source else [each for each in sources_of("market") if each.name in loaded]
        chart = read_chart(lake, sources, instrument, first, last, currency, adjusted=adjusted)
        charts = read_bases(lake, chart) if target.suffix.lower() == ".html" else [chart]
        try:
            write(charts, target, is_log=log)
        except OSError as error:
            print_error(error)
            raise typer.Exit(2) from None
    console.print(str(target), highlight=False, soft_wrap=True, markup=False)
