"""A vendor who corrects what it said: bars that change, appear and go, dividends and splits that become known late.
Only what follows from them changes, and every earlier moment reads as it did.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from assets_tests.support.soak import ONLY_IN_A_SOAK
from assets_tests.support.vendor_lake import DAYS, KEY, NEW_YORK, SOURCE, TABLES, VendorLake, small_market, vendor_lake
from lakehouse.api import Lake
from lakehouse.cli.app import app
from lakehouse.simulators.us_market import UsMarket
from lakehouse.simulators.vendor_api import VendorApi

CLOCK = datetime(2020, 11, 28, 12, tzinfo=UTC)
# The last session of October: the next one is in another month, and in another answer.
DAY, NEXT = DAYS[1], DAYS[2]
PROVENANCE = ("object_version", "row_number", "published_at", "ingested_at", "known_at")
Row = dict[str, Any]


@pytest.fixture
def market() -> UsMarket:
    return small_market()


class FirstLoad(NamedTuple):
    """A home after the first load of what the market has, and its tables."""

    home: Path
    tables: dict[str, pl.DataFrame]


@pytest.fixture(scope="module")
def first_load(tmp_path_factory: pytest.TempPathFactory) -> FirstLoad:
    market, home = small_market(), tmp_path_factory.mktemp("corrected") / "home"
    with vendor_lake(home, VendorApi(market, api_key=KEY, clock=CLOCK), market.symbols) as made:
        made.update()
        return FirstLoad(home, made.everything())


@pytest.fixture
def lake(first_load: FirstLoad, own_environment: None, market: UsMarket, tmp_path: Path) -> Iterator[VendorLake]:
    """A lake after its first load."""
    shutil.copytree(first_load.home, tmp_path / "home")
    with vendor_lake(tmp_path / "home", VendorApi(market, api_key=KEY, clock=CLOCK), market.symbols) as made:
        yield made


def last_regular(market: UsMarket, symbol: str, session: date) -> Row:
    bars = market.truth_bars().filter(symbol=symbol, session=session, segment="regular")
    return bars.filter(pl.col("volume") > 0).row(-1, named=True)


def clock_of(bar: Row) -> Any:
    """The start of a bar on New York's clocks, by which the market names it."""
    return bar["start_at"].astimezone(NEW_YORK).time()


def correct(market: UsMarket, symbol: str) -> None:
    bar = last_regular(market, symbol, DAY)
    market.correct(symbol, DAY, clock_of(bar), close=bar["close"] + 0.25)


def add(market: UsMarket, symbol: str) -> None:
    bar = last_regular(market, symbol, DAY)
    at = (bar["start_at"] + timedelta(minutes=1)).astimezone(NEW_YORK).time()
    price = bar["close"] * 1.01
    market.add_bar(symbol, DAY, at, open=price, high=price, low=price, close=price, volume=7)


def withdraw(market: UsMarket, symbol: str) -> None:
    market.withdraw_bar(symbol, DAY, clock_of(last_regular(market, symbol, DAY)))


def differences(before: pl.DataFrame, after: pl.DataFrame, key: list[str]) -> dict[tuple[Any, ...], set[str]]:
    """Key -> the columns in which two tables differ there, apart from where rows came from; all of them for a row that
    only one has.
    """
    old, new = (
        {tuple(row[name] for name in key): row for row in frame.drop(*PROVENANCE, strict=False).iter_rows(named=True)}
        for frame in (before, after)
    )
    nothing: Row = {}
    found = {
        place: {name for name in {**old.get(place, nothing), **new.get(place, nothing)}
                if old.get(place, nothing).get(name) != new.get(place, nothing).get(name)}
        for place in old.keys() | new.keys()
    }  # fmt: skip
    return {place: names for place, names in found.items() if names}


@pytest.mark.soak
@pytest.mark.parametrize("change", [correct, *(pytest.param(each, marks=ONLY_IN_A_SOAK) for each in (add, withdraw))])
def test_a_changed_bar_changes_its_session_and_the_next_change(
    first_load: FirstLoad, lake: VendorLake, market: UsMarket, change: Callable[[UsMarket, str], None]
) -> None:
    symbol, old = market.symbols[0], first_load.tables
    files = {name: set(lake.lake.table(name).snapshot().files()) for name in TABLES}
    moment = datetime.now(UTC)
    change(market, symbol)
    loaded = lake.load_bars(DAYS)
    lake.derive(DAYS)
    new = lake.everything()

    assert loaded.parts == {DAY}
    bars = differences(old[f"{SOURCE}.bars"], new[f"{SOURCE}.bars"], ["symbol", "session", "start_at"])
    ((changed_symbol, changed_session, start_at),) = bars
    assert (changed_symbol, changed_session) == (symbol, DAY)
    now_there = market.truth_bars().filter(symbol=symbol, start_at=start_at)
    assert now_there.height == (change is not withdraw)
    daily = differences(old[f"{SOURCE}.daily_bars"], new[f"{SOURCE}.daily_bars"], ["symbol", "session"])
    assert daily.keys() == {(symbol, DAY), (symbol, NEXT)}
    assert daily[symbol, NEXT] == {"prev_close", "change_pct"}
    row = new[f"{SOURCE}.daily_bars"].row(
        by_predicate=(pl.col("symbol") == symbol) & (pl.col("session") == NEXT), named=True
    )
    assert row["prev_close"] == last_regular(market, symbol, DAY)["close"]

    # What was received before stays; only this symbol's session was received anew.
    raw_before, raw_after = old[f"{SOURCE}.raw_bars"], new[f"{SOURCE}.raw_bars"]
    fresh = raw_after.join(raw_before, on=["object", "object_version", "row_number"], how="anti")
    assert raw_after.height - raw_before.height == fresh.height
    assert set(fresh.select("symbol", "session").rows()) == {(symbol, DAY)}
    assert fresh.height == market.truth_bars().filter(symbol=symbol, session=DAY).height
    for name, stored in files.items():
        partitions = {uri.split("/")[-2] for uri in stored ^ set(lake.lake.table(name).snapshot().files())}
        assert partitions == {
            f"{SOURCE}.raw_bars": {f"session={DAY}"},
            f"{SOURCE}.bars": {f"session={DAY}"},
            f"{SOURCE}.daily_bars": {"year=2020-01-01"},
            "lake.ingest_ledger": {f"source={SOURCE}"},
        }.get(name, set()), name
    losers = lake.lake.sql(
        "SELECT sum(superseded), sum(received - kept - duplicates - superseded) FROM lake.conservation"
    )
    assert losers is not None
    ((superseded, lost),) = losers.fetchall()
    assert (superseded, lost) == (0 if change is add else 1, 0)
    assert_reads_as(lake, old, moment)


def assert_reads_as(lake: VendorLake, frames: dict[str, pl.DataFrame], moment: datetime) -> None:
    for name, frame in lake.everything(moment).items():
        assert_frame_equal(frame, frames[name], check_exact=True)


def test_each_moment_reads_as_it_was(first_load: FirstLoad, lake: VendorLake, market: UsMarket) -> None:
    """Through changes of bars and actions: raw rows, winners, daily bars, official series, actions, adjusted or not."""
    first, second = market.symbols[0], market.symbols[2]
    ex_date = DAYS[4]
    steps: list[list[Callable[[], None]]] = [
        [lambda: correct(market, first), lambda: market.pay_dividend(first, ex_date, 0.5)],
        [lambda: market.revise_dividend(first, ex_date, 0.75), lambda: withdraw(market, second)],
        [lambda: market.split(second, ex_date, 2.0)],
    ]
    history = [(datetime.now(UTC), first_load.tables)]
    for step in steps:
        for change in step:
            change()
        lake.update()
        history.append((datetime.now(UTC), lake.everything()))
    for (_, before), (_, after) in pairwise(history):
        assert not before["adjusted_daily_bars"].equals(after["adjusted_daily_bars"])
    for moment, frames in history:
        assert_reads_as(lake, frames, moment)

    # The command line says the same.
    query = f"SELECT symbol, session, close FROM {SOURCE}.adjusted_daily_bars(as_of := DATE '{DAYS[-1]}') ORDER BY ALL"
    moment, frames = history[1]
    output = CliRunner().invoke(app, ["sql", query, "--as-of", moment.isoformat(), "--format", "csv"]).stdout
    rows = [(row["symbol"], row["session"], float(row["close"])) for row in csv.DictReader(io.StringIO(output))]
    wanted = frames["adjusted_daily_bars"].select("symbol", pl.col("session").cast(pl.String), "close").sort(pl.all())
    assert rows == wanted.rows()


def test_a_late_dividend_scales_what_was_before(first_load: FirstLoad, lake: VendorLake, market: UsMarket) -> None:
    symbol, ex_date, dividend = market.symbols[1], DAYS[4], 0.8
    assert symbol not in lake.rows(f"{SOURCE}.corporate_actions").filter(kind="dividend")["symbol"]
    old, moment = first_load.tables, datetime.now(UTC)
    market.pay_dividend(symbol, ex_date, dividend)
    lake.update()
    new = lake.everything()

    for name in ("raw_bars", "bars", "daily_bars"):
        assert_frame_equal(new[f"{SOURCE}.{name}"], old[f"{SOURCE}.{name}"], check_exact=True)
    actions = differences(
        old[f"{SOURCE}.corporate_actions"], new[f"{SOURCE}.corporate_actions"], ["symbol", "ex_date", "kind"]
    )
    assert actions.keys() == {(symbol, ex_date, "dividend")}
    known = new[f"{SOURCE}.corporate_actions"].filter(symbol=symbol, kind="dividend").row(0, named=True)
    assert known["dividend_amount"] == dividend
    assert known["known_at"] > moment
    official = differences(old[f"{SOURCE}.official_daily"], new[f"{SOURCE}.official_daily"], ["symbol", "session"])
    assert official == {
        **{(symbol, day): {"adjusted_close"} for day in DAYS[:4]}, (symbol, ex_date): {"dividend_amount"}
    }  # fmt: skip

    closes = {row["session"]: row["close"] for row in market.truth_daily().filter(symbol=symbol).iter_rows(named=True)}
    factors = {"crsp": 1 - dividend / closes[DAYS[3]], "reinvest": closes[ex_date] / (closes[ex_date] + dividend)}
    for convention, factor in factors.items():
        rows = {"old": _adjusted(lake, symbol, convention, moment), "new": _adjusted(lake, symbol, convention, None)}
        for day in DAYS:
            wanted = rows["old"][day]["close"] * (factor if day < ex_date else 1)
            assert rows["new"][day]["close"] == pytest.approx(wanted, rel=1e-12), (convention, day)
            assert rows["new"][day]["volume"] == rows["old"][day]["volume"]
        assert rows["new"][ex_date]["prev_close"] == pytest.approx(rows["old"][DAYS[3]]["close"] * factor, rel=1e-12)
    assert_reads_as(lake, old, moment)


def test_a_late_split_changes_prices_from_its_day_on(first_load: FirstLoad, lake: VendorLake, market: UsMarket) -> None:
    symbol, ex_date = market.symbols[2], DAYS[4]
    old, moment = first_load.tables, datetime.now(UTC)
    market.split(symbol, ex_date, 2.0)
    lake.update()
    new = lake.everything()
    touched = differences(old[f"{SOURCE}.bars"], new[f"{SOURCE}.bars"], ["symbol", "session", "start_at"])
    assert {(name, session) for name, session, _ in touched} == {(symbol, day) for day in DAYS[4:]}
    daily = differences(old[f"{SOURCE}.daily_bars"], new[f"{SOURCE}.daily_bars"], ["symbol", "session"])
    assert daily.keys() == {(symbol, day) for day in DAYS[4:]}
    rows = _adjusted(lake, symbol, "crsp", None)
    stored = {row["session"]: row for row in new[f"{SOURCE}.daily_bars"].filter(symbol=symbol).iter_rows(named=True)}
    dividends = {
        row["ex_date"]: row["dividend_amount"]
        for row in new[f"{SOURCE}.corporate_actions"].filter(symbol=symbol, kind="dividend").iter_rows(named=True)
    }
    closes = {row["session"]: row["close"] for row in market.truth_daily().filter(symbol=symbol).iter_rows(named=True)}
    for day in DAYS:
        factor = 0.5 if day < ex_date else 1.0
        for paid, amount in dividends.items():
            eve = DAYS[DAYS.index(paid) - 1]
            # The close of the eve on the share count of the ex-date.
            previous = closes[eve] / (2 if eve < ex_date <= paid else 1)
            factor *= 1 - amount / previous if day < paid else 1
        assert rows[day]["close"] == pytest.approx(stored[day]["close"] * factor, rel=1e-12)
        assert rows[day]["volume"] == stored[day]["volume"] * (2 if day < ex_date else 1)
    assert_reads_as(lake, old, moment)


def _adjusted(lake: VendorLake, symbol: str, convention: Any, as_of: datetime | None) -> dict[date, Row]:
    options = {"adjusted": "splits_and_dividends", "convention": convention, "as_of": DAYS[-1]}
    relation = Lake.open(as_of=as_of).daily_bars(SOURCE, **options)
    return {row["session"]: row for row in relation.pl().filter(symbol=symbol).iter_rows(named=True)}
