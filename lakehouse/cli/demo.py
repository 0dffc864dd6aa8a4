"""The demo: a simulated exchange publishes a month of files and a simulated vendor serves its API, after publishers of
reference data have named the exchange's market and the issuers of its instruments. All run through the whole pipeline,
followed by the exchange's late, repaired and corrected files and the vendor's corrections. Beside them (see
`demo_beside`) two minutes of a quote feed are played at forty times their speed, a shop's month is loaded, a bank's
month is posted and captured, and orders are played by the saga.

The demo has its own home below the usual one, so that simulated prices never mix with real ones.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.cli.demo_analysis import ANALYSIS, play_analysis
from lakehouse.cli.demo_beside import playing_beside
from lakehouse.cli.demo_feed import FEED
from lakehouse.cli.demo_outcomes import RunFailed, print_stage
from lakehouse.cli.demo_reference import mapping_api, play_reference, use_reference
from lakehouse.cli.demo_shop import SHOP, file_server, use_shop
from lakehouse.cli.next_steps import as_typed, print_next, short
from lakehouse.local_dagster.backfill import Outcome, backfill_source, show_outcome
from lakehouse.local_dagster.dev import is_shown
from lakehouse.local_dagster.display import Display
from lakehouse.settings import settings
from lakehouse.simulators.exchange import Exchange
from lakehouse.simulators.truth import Stage
from lakehouse.simulators.us_market import UsMarket
from lakehouse.simulators.vendor_api import VendorApi
from lakehouse.warehouse.publish import publish

EXCHANGE, VENDOR = "xetra", "alpha_vantage"
FIRST, LAST = date(2024, 3, 1), date(2024, 3, 28)
_DAILY_FROM = date(2023, 9, 1)
_LATER: tuple[Stage, ...] = ("late", "repaired", "corrected")
_SYMBOLS = 8
_ASKED_AT = datetime(2024, 3, 29, 3, tzinfo=UTC)
_ASKED_AGAIN_AT = datetime(2024, 4, 3, 3, tzinfo=UTC)
_KEY = "a-key-of-the-demonstration"

_KEPT = ("cache", "dbt")
"""Folders of the home that the next demo reuses: cached calendars and dbt's parsed project, seconds of work each."""


def play(console: Console, seed: int) -> None:
    """Plays every scene into `<home>/demo`, runs the pipeline on each, and prints the results and commands to try next.

    Raises:
        RunFailed: a run of the pipeline failed, or Dagster's UI is running on the home that would be removed.
    """
    home = settings().home / "demo"
    for shown in (settings().home, home):
        if is_shown(shown):
            raise RunFailed(
                f"`lakehouse dev` is running on {shown}, and the demo begins with a new lake; stop it first"
            )
    _empty(home)
    _use(home)
    os.environ["ALPHA_VANTAGE_API_KEY"] = os.environ["IEX_TOKEN"] = _KEY
    with playing_beside(console, seed, FIRST, LAST) as show_beside:
        with Display(console) as display:
            display.show("the marts of an empty lake", 0, 0)
            # Without a publication, the first run builds all marts, those of a shop that is being loaded, too.
            publish(settings())
            exchange = _exchange(console, display, home / "exchange", seed)
            display.show("the vendor collects its month", 0, 0)
            market = _market(seed)
            vendor = _vendor(console, display, market, seed)
        _print_result(console, EXCHANGE, exchange)
        _print_result(console, VENDOR, vendor)
        play_analysis(console, VENDOR, market.symbols[0], _DAILY_FROM, LAST)
        show_beside()
    _print_quarantine(console)
    _print_next(home, market.symbols[0])


@contextmanager
def played() -> Iterator[None]:
    """Points this process at the demo's lake, and serves its documents and its identifiers in the block. No vendor is
    polled, since no keys are set.

    Raises:
        RunFailed: there is no such lake.
    """
    home = settings().home / "demo"
    if not (home / "lake").is_dir():
        raise RunFailed(f"there is no lake of the demonstration in {home}; make it by `lakehouse demo`")
    _use(home)
    with file_server(home), mapping_api():
        yield


def _empty(home: Path) -> None:
    """Deletes the lake of an earlier demo and everything derived from it."""
    for entry in home.iterdir() if home.is_dir() else ():
        if entry.is_dir() and entry.name not in _KEPT:
            shutil.rmtree(entry)
        elif not entry.is_dir():
            entry.unlink()


def _use(home: Path) -> None:
    os.environ["LAKEHOUSE_HOME"] = str(home)
    os.environ["LAKEHOUSE_XETRA_URL"] = str(home / "exchange")
    for source in (EXCHANGE, VENDOR, SHOP):
        os.environ[f"LAKEHOUSE_{source.upper()}_ENDS"] = str(LAST)
    use_reference(home)
    use_shop(home)
    # The demo must not use the user's own lake and keys, which `.env` may name.
    os.environ["PYTHON_DOTENV_DISABLED"] = "1"
    for name in (
        "ALPHA_VANTAGE_API_KEY",
        "IEX_TOKEN",
        "LAKEHOUSE_LAKE_URI",
        "LAKEHOUSE_XETRA_REPORT_URL",
        "LAKEHOUSE_ALPHA_VANTAGE_ADJUSTED",
        "LAKEHOUSE_IEX_SYMBOLS",
        "LAKEHOUSE_DOCUMENTS_URL",
        "LAKEHOUSE_DATABASE_URL",
        "LAKEHOUSE_BANKING_URL",
        "LAKEHOUSE_ORDERS_URL",
        "LAKEHOUSE_DEFS",
        "DAGSTER_HOME",
    ):
        os.environ.pop(name, None)
    settings.cache_clear()


def _exchange(console: Console, display: Display, feed: Path, seed: int) -> Outcome:
    """Plays an exchange's month of hourly objects, then its later ones."""
    calendar = source_named(EXCHANGE).calendar
    sessions = calendar.between(FIRST, LAST)
    exchange = Exchange([(session, *calendar.hours(session)) for session in sessions], seed=seed)
    for source, outcome in play_reference(console, display, feed.parent, exchange):
        print_stage(console, source, outcome)
    display.show("the exchange publishes its month", 0, 0)
    published = len(exchange.write(feed))
    console.print(
        f"The exchange published {published:,} hourly objects of {len(sessions)} sessions in {escape(short(feed))}",
        highlight=False,
    )
    print_stage(console, "First load", backfill_source(EXCHANGE, FIRST, LAST, display))
    for stage in _LATER:
        exchange.write(feed, stage=stage)
    console.print("The exchange sent a late object, a repaired one and a corrected one", highlight=False)
    second = backfill_source(EXCHANGE, FIRST, LAST, display)
    print_stage(console, "After them", second)
    return second


def _market(seed: int) -> UsMarket:
    calendar = source_named(VENDOR).calendar
    sessions = [(session, *calendar.hours(session)) for session in calendar.between(FIRST, LAST)]
    return UsMarket(sessions, seed, _SYMBOLS, earlier_sessions=calendar.between(_DAILY_FROM, FIRST - timedelta(days=1)))


def _vendor(console: Console, display: Display, market: UsMarket, seed: int) -> Outcome:
    """Loads a vendor's month over its API with faults, then again after the vendor has corrected it."""
    with VendorApi(market, api_key=_KEY, clock=_ASKED_AT, seed=seed) as api:
        os.environ["LAKEHOUSE_ALPHA_VANTAGE_URL"] = f"{api.url}/query"
        os.environ["LAKEHOUSE_ALPHA_VANTAGE_SYMBOLS"] = ",".join(market.symbols)
        console.print(
            f"\nThe vendor's API answers about {_SYMBOLS} symbols, one of them late, one with damaged rows",
            highlight=False,
        )
        api.fail(market.symbols[0], "http_500")
        api.fail(market.symbols[1], "damaged_rows", function="TIME_SERIES_INTRADAY")
        print_stage(console, "First load", backfill_source(VENDOR, FIRST, LAST, display))
        api.clock = _ASKED_AGAIN_AT
        day = market.sessions[7].session
        market.correct(market.symbols[2], day, time(15, 59), close=_last_close(market, market.symbols[2], day) * 1.01)
        console.print(f"The vendor corrected a close of {day}, and repaired its damaged rows", highlight=False)
        second = backfill_source(VENDOR, FIRST, LAST, display)
        print_stage(console, "After that", second)
    return second


def _last_close(market: UsMarket, symbol: str, day: date) -> float:
    """The close of a symbol's last regular minute."""
    bars = market.truth_bars().filter(symbol=symbol, session=day, segment="regular").sort("start_at")
    return float(bars["close"][-1])


def _print_result(console: Console, source: str, outcome: Outcome) -> None:
    console.print(f"\n[bold]{source}[/]", highlight=False)
    show_outcome(console, outcome)


def _print_quarantine(console: Console) -> None:
    reasons = Lake.open().sql(
        "SELECT count(*), reason FROM (SELECT unnest(reasons) AS reason FROM lake.quarantine) "
        "GROUP BY reason ORDER BY ALL DESC"
    )
    assert reasons is not None
    console.print("\nIn the quarantine, each row with its object and number:")
    for count, reason in reasons.fetchall():
        console.print(f"{count:>6,}  {reason}", highlight=False)


def _print_next(home: Path, instrument: str) -> None:
    lakehouse = as_typed()
    prefix = f"LAKEHOUSE_HOME={shlex.quote(short(home))} LAKEHOUSE_XETRA_URL={shlex.quote(short(home / 'exchange'))}"
    in_demo = (
        'sql "FROM marts.daily_movers WHERE gain_rank = 1 ORDER BY session"',
        'sql "SELECT isin, issuer_lei, issuer_name FROM marts.dim_instrument LIMIT 9"',
        'sql "FROM lake.reconciliation_breaks"',
        f'sql "FROM {FEED}.top_stocks LIMIT 9"',
        'documents search "prices of lamps"',
        "banking statement 1000000001",
        'sql "FROM marts.order_funnel"',
        f"analyses results {ANALYSIS} fig -o crossover.png",
        f"plot {instrument} --from {LAST} --to {LAST}",
        "status",
    )
    shown = (f"{lakehouse} dashboard --demo", f"{lakehouse} dev --demo")
    print_next([*(f"{prefix} {lakehouse} {each}" for each in in_demo), *shown])
