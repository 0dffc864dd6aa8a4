"""`lakehouse banking capture` and `verify`: the bank's database into the lake, and the two compared."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.cli.banking import banking_app, say
from lakehouse.cli.explained import errors, explained, print_error

if TYPE_CHECKING:
    from lakehouse.derive.captured import CapturedSource
    from lakehouse.ingest.postgres.capture import CaptureResult

_SOURCE = "banking"
_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0


@banking_app.command()
def capture(
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C, a second after each capture.")] = False,
) -> None:
    """Capture what the bank's database has committed since the last time into the lake's tables.

    Exits with status 1 where a table has stopped, since its columns differ from its contract.
    """
    with explained():
        if follow:
            _follow()
        source = _source()
        result = _captured(source)
        _report(result)
        if result.stopped:
            raise typer.Exit(1)


@banking_app.command()
def verify() -> None:
    """Capture, and compare every row of the database with the lake at that position of the log.

    Exits with status 1 where they differ.
    """
    from lakehouse.api import Lake
    from lakehouse.ingest.postgres.verify import verify as compare

    with explained():
        source = _source()
        _captured(source)
        compared = compare(Lake.present(), source.of)
        for table in compared.tables:
            later = f", {table.pending:,} changed since and left out" if table.pending else ""
            state = "equal" if not table.differing else f"{table.differing:,} DIFFER"
            say(f"{table.name}: {table.there:,} rows in the database, {table.here:,} in the lake, {state}{later}")
            for row in table.shown:
                say(f"  {row.key} {row.found}")
        for name, reason in compared.stopped.items():
            say(f"{name}: STOPPED, {reason}")
        said = "equals" if compared.is_equal else "doesn't equal"
        say(f"The lake {said} the database at {compared.position}.")
        if not compared.is_equal:
            raise typer.Exit(1)


def _follow() -> None:
    """Captures until Ctrl-C; while the database doesn't answer, it is asked again after growing pauses."""
    from lakehouse.api import Lake
    from lakehouse.derive.capture_rounds import CaptureRounds
    from lakehouse.errors import DatabaseUnavailable

    pause = _PAUSE_S
    with CaptureRounds(Lake.present(), _source()) as rounds:
        while True:
            try:
                result = rounds.capture()
            except DatabaseUnavailable as error:
                print_error(error)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            else:
                pause = _PAUSE_S
                if result is not None and result.batches:
                    _report(result)
            time.sleep(pause)


def _source() -> CapturedSource:
    from lakehouse.catalog import described_source
    from lakehouse.derive.captured import CapturedSource

    source = described_source(_SOURCE)
    assert isinstance(source, CapturedSource)
    return source


def _captured(source: CapturedSource) -> CaptureResult:
    from lakehouse.api import Lake
    from lakehouse.derive.captured import capture_and_derive

    return capture_and_derive(Lake.present(), source)


def _report(result: CaptureResult) -> None:
    if result.by_snapshot is not None:
        say(f"Compared the database with the lake: {result.by_snapshot}.")
    what = f"{result.changes:,} changes of {result.transactions:,} transactions in {result.batches:,} batches"
    lag = "" if result.lag is None else f"; {result.lag:,} bytes of the log are left"
    say(f"Captured {what}, up to {result.position}{lag}." if result.batches else f"Nothing is new{lag}.")
    if result.quarantined:
        say(f"{result.quarantined:,} changes broke their contract: see lake.quarantine.")
    for name, reason in result.stopped.items():
        errors.print(f"{name} has stopped: {reason}", highlight=False, markup=False, soft_wrap=True)
