"""`lakehouse simulate`: plays vendors on this machine, so that sources can be tried without a key.

What the vendors do belongs in `lakehouse.simulators`; the whole demonstration in `demo`.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from lakehouse.cli.explained import console, explained
from lakehouse.cli.options import FeedArgument
from lakehouse.errors import SourceError

simulate_app = typer.Typer(name="simulate", help="Play a vendor on this machine, to try a source without a key.")
Stage = Literal["first", "late", "repaired", "corrected"]
"""As in `lakehouse.simulators.truth`, whose import would slow down every command."""
_KEY = "simulated"
_FIRST, _LAST = datetime(2024, 3, 4), datetime(2024, 3, 15)
Seed = Annotated[int, typer.Option(help="Random seed; another one plays other prices.")]
First = Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day that is played.")]
Last = Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day.")]
Seconds = Annotated[float | None, typer.Option("--seconds", min=0, help="Stop after that time, instead of on Ctrl-C.")]


@simulate_app.command()
def exchange(
    folder: Annotated[Path | None, typer.Argument(help="Where it publishes (default: in the home).")] = None,
    first: First = _FIRST,
    last: Last = _LAST,
    stage: Annotated[
        Stage, typer.Option(help="What it publishes: its objects, then the late, the repaired or the corrected one.")
    ] = "first",
    seed: Seed = 1,
) -> None:
    """Publish hourly files of an exchange in a folder, in the shape of Xetra's public data."""
    from lakehouse.settings import settings
    from lakehouse.simulators.exchange import Exchange

    with explained():
        place = folder or settings().home / "simulated" / "exchange"
        sessions = _sessions("xetra", first, last)
        written = Exchange(sessions, seed=seed).write(place, stage=stage)
    _say(
        f"# published {len(written):,} objects of {len(sessions)} sessions; set and run:",
        f"export LAKEHOUSE_XETRA_URL={place}",
        f"lakehouse backfill xetra --from {sessions[0][0]} --to {sessions[-1][0]}",
    )


@simulate_app.command()
def api(
    first: First = _FIRST,
    last: Last = _LAST,
    symbols: Annotated[int, typer.Option(min=1, max=100, help="How many symbols there are.")] = 5,
    seconds: Seconds = None,
    seed: Seed = 1,
) -> None:
    """Answer as Alpha Vantage's API does, on loopback, until Ctrl-C."""
    from lakehouse.simulators.us_market import UsMarket
    from lakehouse.simulators.vendor_api import VendorApi

    with explained():
        sessions = _sessions("alpha_vantage", first, last)
        market = UsMarket(sessions, seed, symbols)
        with VendorApi(market, api_key=_KEY, seed=seed) as vendor:
            _say_and_wait(
                seconds,
                "# in another terminal, set and run:",
                f"export LAKEHOUSE_ALPHA_VANTAGE_URL={vendor.url}/query ALPHA_VANTAGE_API_KEY={_KEY}",
                f"export LAKEHOUSE_ALPHA_VANTAGE_SYMBOLS={','.join(market.symbols)}",
                f"lakehouse backfill alpha_vantage --from {sessions[0][0]} --to {sessions[-1][0]}",
            )


@simulate_app.command()
def feed(name: FeedArgument = None, seconds: Seconds = None, seed: Seed = 1) -> None:
    """Answer polls for quotes, on loopback, until Ctrl-C: in the words of each feed that ships."""
    from lakehouse.catalog import feed_named
    from lakehouse.simulators.quote_feed import QuoteFeed
    from lakehouse.simulators.quote_source import RandomQuotes

    with explained():
        played = feed_named(name)
        with QuoteFeed(RandomQuotes(played.symbols(), seed=seed), token=_KEY) as vendor:
            key = played.config.api.key
            of_key = f" {key.variable}={_KEY}" if key else ""
            _say_and_wait(
                seconds,
                "# in another terminal, set and run:",
                f"export LAKEHOUSE_{played.name.upper()}_URL={vendor.url}{of_key}",
                f"lakehouse stream {played.name}",
            )


def _sessions(source: str, first: datetime, last: datetime) -> list[tuple[date, datetime, datetime]]:
    """The sessions of a source's exchange, with their hours.

    Raises:
        SourceError: no session lies between the days.
    """
    from lakehouse.catalog import source_named

    calendar = source_named(source).calendar
    days = calendar.between(first.date(), last.date())
    if not days:
        raise SourceError(
            f"{calendar.name} has no session from {first:%Y-%m-%d} to {last:%Y-%m-%d}; give other days by --from and "
            "--to"
        )
    return [(day, *calendar.hours(day)) for day in days]


def _say(*lines: str) -> None:
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _say_and_wait(seconds: float | None, *lines: str) -> None:
    """Waits until Ctrl-C, which may come as soon as the last line was read."""
    with suppress(KeyboardInterrupt):
        _say(*lines)
        threading.Event().wait(seconds)
