"""The demonstration: an exchange is played, its month of files goes through the whole pipeline, then its late,
repaired and corrected files do.

It lives in a home of its own below the usual one, so that invented prices never meet real ones.
"""

from __future__ import annotations

import os
import shlex
import shutil
from datetime import date
from pathlib import Path

from rich.console import Console

from lakehouse.lake.lake import Lake
from lakehouse.runs import Display, Outcome, backfill_source, show_outcome
from lakehouse.settings import settings
from lakehouse.simulators.exchange import Exchange
from lakehouse.simulators.truth import Stage
from lakehouse.sources.config import source_named

SOURCE = "xetra"
FIRST, LAST = date(2024, 3, 1), date(2024, 3, 28)
_LATER: tuple[Stage, ...] = ("late", "repaired", "corrected")


class RunFailed(RuntimeError):
    """A run of the demonstration did not succeed."""


def play(console: Console, seed: int) -> None:
    """Plays the exchange into `<home>/demo`, runs the pipeline twice, and prints what it made and what to try next."""
    home = settings().home / "demo"
    shutil.rmtree(home, ignore_errors=True)
    _use(home)
    calendar = source_named(SOURCE).calendar_frame()
    sessions = calendar.between(FIRST, LAST)
    exchange = Exchange([(session, *calendar.hours(session)) for session in sessions], seed=seed)
    feed = home / "exchange"
    with Display(console) as display:
        display.show("the exchange publishes its month", 0, 0)
        published = len(exchange.write(feed))
        console.print(
            f"The exchange published {published:,} hourly objects of {len(sessions)} sessions in {_short(feed)}",
            highlight=False,
        )
        first = backfill_source(SOURCE, FIRST, LAST, display)
        _print_stage(console, "First load", first)
        for stage in _LATER:
            exchange.write(feed, stage=stage)
        console.print("The exchange sent a late object, a repaired one and a corrected one", highlight=False)
        second = backfill_source(SOURCE, FIRST, LAST, display)
        _print_stage(console, "After them", second)
    _print_result(console, second)
    _print_next(console, home)


def _use(home: Path) -> None:
    os.environ["LAKEHOUSE_HOME"] = str(home)
    os.environ["LAKEHOUSE_XETRA_URL"] = str(home / "exchange")
    for name in ("LAKEHOUSE_LAKE_URI", "LAKEHOUSE_XETRA_REPORT_URL", "DAGSTER_HOME"):
        os.environ.pop(name, None)
    settings.cache_clear()


def _print_stage(console: Console, what: str, outcome: Outcome) -> None:
    console.print(
        f"[bold]{what}[/]: {outcome.rows['received']:,} rows received in {sum(outcome.seconds.values()):.1f} s",
        highlight=False,
    )
    for where, name, _, _, found in outcome.failed_checks:
        console.print(f"  [red]{where} {name}[/]: {found}", highlight=False)
    if outcome.error:
        raise RunFailed(f"run {outcome.run_id} failed: {outcome.error}")


def _print_result(console: Console, outcome: Outcome) -> None:
    console.print()
    show_outcome(console, outcome)
    reasons = Lake.open().sql(
        "SELECT count(*), reason FROM (SELECT unnest(reasons) AS reason FROM lake.quarantine) "
        "GROUP BY reason ORDER BY ALL DESC"
    )
    assert reasons is not None
    console.print("\nIn the quarantine, each row with its object and number:")
    for count, reason in reasons.fetchall():
        console.print(f"{count:>6,}  {reason}", highlight=False)


def _print_next(console: Console, home: Path) -> None:
    prefix = f"LAKEHOUSE_HOME={shlex.quote(_short(home))} LAKEHOUSE_XETRA_URL={shlex.quote(_short(home / 'exchange'))}"
    console.print("\nTry next:")
    for command in (
        f'{prefix} .venv/bin/lakehouse sql "FROM marts.daily_movers WHERE gain_rank = 1 ORDER BY session"',
        f"{prefix} .venv/bin/lakehouse status",
        f"{prefix} make dev",
    ):
        console.print(f"  {command}", highlight=False, soft_wrap=True)


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
