"""`lakehouse stream` and `watch`: ingest a quote feed, and look at it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from lakehouse.cli.explained import console, errors, explained, print_error
from lakehouse.cli.options import FeedArgument


class Transport(StrEnum):
    """How a feed's quotes come."""

    poll = "poll"
    nats = "nats"


def stream(
    feed: FeedArgument = None,
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


def watch(
    feed: FeedArgument = None,
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
