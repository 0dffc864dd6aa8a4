"""The demo: a simulated exchange publishes a month of files and a simulated vendor serves its API, after publishers of
reference data have named the exchange's market and the issuers of its instruments. All run through the whole pipeline,
followed by the exchange's late, repaired and corrected files and the vendor's corrections. Then two minutes of a quote
feed are played at forty times their speed, a shop's month is loaded (see `demo_shop`), a bank's month is posted and
captured (see `demo_bank`), and orders are played by the saga (see `demo_orders`).

The demo has its own home below the usual one, so that simulated prices never mix with real ones.
"""

from __future__ import annotations

import asyncio
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
from lakehouse.catalog import database_place, feed_named, source_named
from lakehouse.cli.demo_analysis import ANALYSIS, play_analysis
from lakehouse.cli.demo_bank import play_bank
from lakehouse.cli.demo_orders import play_orders
from lakehouse.cli.demo_reference import mapping_api, play_reference, use_reference
from lakehouse.cli.demo_shop import SHOP, file_server, play_shop, print_shop, use_shop
from lakehouse.cli.next_steps import as_typed, print_next, short
from lakehouse.domains.market.quotes.ingest import Round, Totals
from lakehouse.domains.market.quotes.service import poll
from lakehouse.errors import LakehouseError
from lakehouse.local_dagster.backfill import Outcome, backfill_source, show_outcome
from lakehouse.local_dagster.dev import is_shown
from lakehouse.local_dagster.display import Display
from lakehouse.servers.postgres import database
from lakehouse.settings import settings
from lakehouse.simulators.exchange import Exchange
from lakehouse.simulators.quote_feed import QuoteFeed
from lakehouse.simulators.quote_source import RandomQuotes
from lakehouse.simulators.truth import Stage
from lakehouse.simulators.us_market import UsMarket
from lakehouse.simulators.vendor_api import VendorApi

EXCHANGE, VENDOR, FEED = "xetra", "alpha_vantage", "iex"
FIRST, LAST = date(2024, 3, 1), date(2024, 3, 28)
_DAILY_FROM = date(2023, 9, 1)
_LATER: tuple[Stage, ...] = ("late", "repaired", "corrected")
_SYMBOLS = 8
_ASKED_AT = datetime(2024, 3, 29, 3, tzinfo=UTC)
_ASKED_AGAIN_AT = datetime(2024, 4, 3, 3, tzinfo=UTC)
_KEY = "a-key-of-the-demonstration"
_SPEED = 40
_FEED_FAULTS = {"http_500": 0.03, "reset": 0.02, "late": 0.03, "repeated": 0.03, "null_price": 0.02}


_KEPT = ("cache", "dbt")
"""Folders of the home that the next demo reuses: cached calendars and dbt's parsed project, seconds of work each."""


class RunFailed(LakehouseError):
    """A run of the demo failed."""


def play(console: Console, seed: int) -> None:
    """Plays the vendors and the shop into `<home>/demo`, runs the pipeline on each, and prints the results and commands
    to try next.

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
    with Display(console) as display:
        exchange = _exchange(console, display, home / "exchange", seed)
        display.show("the vendor collects its month", 0, 0)
        market = _market(seed)
        vendor = _vendor(console, display, market, seed)
        feed = _feed(console, display, seed)
        for outcome in play_shop(console, display, home, FIRST, LAST, seed):
            _print_stage(console, "Loaded", outcome)
    _print_result(console, EXCHANGE, exchange)
    _print_result(console, VENDOR, vendor)
    _print_feed(console, feed)
    print_shop(console)
    play_analysis(console, VENDOR, market.symbols[0], _DAILY_FROM, LAST)
    # The server is started once for both.
    with database(database_place(settings())), Display(console) as display:
        _print_faults(console, play_bank(console, display, FIRST, LAST, seed))
        _print_faults(console, play_orders(console, display, seed))
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
        _print_stage(console, source, outcome)
    display.show("the exchange publishes its month", 0, 0)
    published = len(exchange.write(feed))
    console.print(
        f"The exchange published {published:,} hourly objects of {len(sessions)} sessions in {escape(short(feed))}",
        highlight=False,
    )
    _print_stage(console, "First load", backfill_source(EXCHANGE, FIRST, LAST, display))
    for stage in _LATER:
        exchange.write(feed, stage=stage)
    console.print("The exchange sent a late object, a repaired one and a corrected one", highlight=False)
    second = backfill_source(EXCHANGE, FIRST, LAST, display)
    _print_stage(console, "After them", second)
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
        _print_stage(console, "First load", backfill_source(VENDOR, FIRST, LAST, display))
        api.clock = _ASKED_AGAIN_AT
        day = market.sessions[7].session
        market.correct(market.symbols[2], day, time(15, 59), close=_last_close(market, market.symbols[2], day) * 1.01)
        console.print(f"The vendor corrected a close of {day}, and repaired its damaged rows", highlight=False)
        second = backfill_source(VENDOR, FIRST, LAST, display)
        _print_stage(console, "After that", second)
    return second


def _feed(console: Console, display: Display, seed: int) -> Totals:
    """Plays two minutes of quotes, with typical faults, in a few seconds."""
    from lakehouse.local_dagster.feed_reports import report_rounds

    usual = feed_named(FEED).config
    symbols, poll_interval_s, rounds = (
        usual.api.symbols,
        usual.poll_interval_s / _SPEED,
        int(120 / usual.poll_interval_s),
    )
    start = datetime.now(UTC) - timedelta(minutes=10)
    with QuoteFeed(
        RandomQuotes(symbols, seed=seed),
        token=_KEY,
        start=start,
        speed=_SPEED,
        faults=_FEED_FAULTS,
        seed=seed,
    ) as vendor:
        os.environ["LAKEHOUSE_IEX_URL"] = vendor.url
        console.print(f"\nA feed of {len(symbols)} symbols runs by, {_SPEED} times as fast", highlight=False)
        made: list[Round] = []

        def told(of: Round) -> None:
            made.append(of)
            display.show("rounds of the feed", min(len(made), rounds), rounds)

        # The vendor's URL is known only now.
        feed = feed_named(FEED).changed(poll_interval_s=poll_interval_s)
        totals = asyncio.run(poll(Lake.present(), feed, asyncio.Event(), rounds=rounds, told=told))
    report_rounds(feed, made)
    return totals


def _last_close(market: UsMarket, symbol: str, day: date) -> float:
    """The close of a symbol's last regular minute."""
    bars = market.truth_bars().filter(symbol=symbol, session=day, segment="regular").sort("start_at")
    return float(bars["close"][-1])


def _print_stage(console: Console, what: str, outcome: Outcome) -> None:
    console.print(
        f"[bold]{what}[/]: {outcome.rows['received']:,} rows received in {sum(outcome.seconds.values()):.1f} s",
        highlight=False,
    )
    _print_faults(console, outcome)


def _print_faults(console: Console, outcome: Outcome) -> None:
    """Prints the failed checks of a run.

    Raises:
        RunFailed: the run failed.
    """
    for where, name, _, _, found in outcome.failed_checks:
        console.print(f"  [red]{where} {name}[/]: {found}", highlight=False)
    if outcome.error:
        raise RunFailed(f"run {outcome.run_id} failed: {outcome.error}")


def _print_result(console: Console, source: str, outcome: Outcome) -> None:
    console.print(f"\n[bold]{source}[/]", highlight=False)
    show_outcome(console, outcome)


def _print_feed(console: Console, feed: Totals) -> None:
    console.print(
        f"\n[bold]{FEED}[/]: {feed.stored:,} quotes stored, {feed.repeated:,} repeated, {feed.refused:,} refused, "
        f"{feed.errors:,} tries without an answer; the latest closed minute:",
        highlight=False,
    )
    rows = Lake.open().sql(
        f"SELECT symbol, mean_price, last_price, percentage_gain FROM {FEED}.quote_windows "
        "WHERE resolution_minutes = 1 QUALIFY window_end = max(window_end) OVER () "
        "ORDER BY percentage_gain DESC NULLS LAST, symbol LIMIT 3"
    )
    assert rows is not None
    for symbol, mean, last, gain in rows.fetchall():
        console.print(f"  {symbol:<6} mean {mean:>9.2f}  last {last:>9.2f}  {gain:+.2f} %", highlight=False)


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
