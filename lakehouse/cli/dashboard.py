"""`lakehouse dashboard`: pages over the lake and its published marts, which only read."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Annotated

import typer

from lakehouse.cli.explained import console, errors, explained


def _demo() -> AbstractContextManager[None]:
    # Its simulators need Dagster, which takes seconds to import.
    from lakehouse.cli.demo import played

    return played()


def dashboard(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the pages; 0 takes a free one.")] = 8050,
    host: Annotated[str, typer.Option(help="Address to listen on; others than 127.0.0.1 let other machines read.")] = (
        "127.0.0.1"
    ),
    of_demo: Annotated[bool, typer.Option("--demo", help="Show the lake that `lakehouse demo` made.")] = False,
) -> None:
    """Show the lake in a browser: coverage, movers, charts, checks, quarantine, freshness and the other domains.

    The pages only read.
    """
    from lakehouse.apps.dashboard.guard import is_loopback
    from lakehouse.apps.dashboard.server import listen, serve
    from lakehouse.settings import settings

    with explained(), _demo() if of_demo else nullcontext():
        lake = settings().lake
        listening = listen(host, port)
        shown = f"[{host}]" if ":" in host else host
        console.print(f"http://{shown}:{listening.getsockname()[1]}", highlight=False, soft_wrap=True, markup=False)
        console.print(f"The lake at {lake}. Ctrl-C stops it.", highlight=False, soft_wrap=True, markup=False)
        if not is_loopback(host):
            errors.print(
                "[yellow]Everybody who reaches this address can read what it shows.[/] "
                "Put a proxy with a login in front of it.",
                highlight=False,
                soft_wrap=True,
            )
        serve(listening, host)
