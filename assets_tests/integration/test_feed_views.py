"""The views over a feed's closed windows: what they show is worked out a second time, in plain Python, from the quotes
as they were told. Prices are exact decimals there, so that a tie is a tie.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from assets_tests.support.feed_lake import FeedLake, said
from assets_tests.support.lakes import Lakehouse
from assets_tests.support.window_reference import Place, Told, closed_windows, filled_windows
from lakehouse import catalog
from lakehouse.api import Lake
from lakehouse.settings import settings

Row = tuple[Any, ...]
TODAY = datetime.now(UTC).date()
# Across midnight, in a day that is over: some windows of both days are closed.
START = datetime.combine(TODAY - timedelta(days=2), time(23, 57), UTC)
DAYS = [START.date(), START.date() + timedelta(days=1)]
ROUNDS = 30
SYMBOLS = ("ONE", "TWO", "SIX", "NIL", "LOW")
# Sums of these, divided as floating-point numbers, depend on how many there are.
PRICES = {
    "ONE": ("100.1",),
    "TWO": ("100.1", "100.3"),
    "SIX": ("100.2",),
    "NIL": ("0", "0", "0", "3"),
    "LOW": ("4.19",),
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedLake]:
    """Rounds with gaps; every fifth comes two rounds late, after windows that it belongs to have been closed."""
    home = tmp_path_factory.mktemp("views") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKEHOUSE_HOME", str(home))
        settings.cache_clear()
        found, chance, waiting = FeedLake(), random.Random(5), []
        for round_ in range(ROUNDS):
            moment = START + timedelta(seconds=10 * round_)
            told = [
                said(symbol, moment + timedelta(milliseconds=n), float(chance.choice(PRICES[symbol])))
                for n, symbol in enumerate(SYMBOLS)
                if chance.random() < 0.8
            ]
            if round_ % 5 == 3:
                waiting = told[1:]
                told = told[:1]
            found.tell(told + (waiting if round_ % 5 == 1 else []))
        yield found
    settings.cache_clear()


@pytest.fixture(autouse=True)
def here(lake: FeedLake, own_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test means the lake of this module."""
    monkeypatch.setenv("LAKEHOUSE_HOME", str(Path(lake.lake.uri).parent))
    settings.cache_clear()


def windows(told: Iterable[Told]) -> dict[Place, list[Told]]:
    """The closed windows' quotes by event time."""
    told = list(told)
    filled, closed = filled_windows(told), closed_windows(told)
    return {place: sorted(filled[place], key=lambda quote: quote.event_time) for place in closed}


def exact(price: float) -> Fraction:
    return Fraction(Decimal(repr(price)))


def top(told: Iterable[Told], ranks: int = 3) -> list[Row]:
    """resolution_minutes, window_end, day, symbol, mean_price, price_rank."""
    means = {
        place: sum((exact(quote.price) for quote in quotes), Fraction(0)) / len(quotes)
        for place, quotes in windows(told).items()
    }
    rows = []
    for place, mean in means.items():
        others = [means[other] for other in means if other[:2] == place[:2]]
        rank = 1 + sum(other > mean for other in others)
        if rank <= ranks:
            rows.append((*place[:2], place.window_end.date(), place.symbol, float(mean), rank))
    return sorted(rows, key=lambda row: (-row[1].timestamp(), row[0], row[5], row[3]))


def gains(told: Iterable[Told]) -> list[Row]:
    """resolution_minutes, window_end, day, symbol, first_price, last_price, percentage_gain."""
    rows: list[Row] = []
    for place, quotes in windows(told).items():
        first, last = exact(quotes[0].price), exact(quotes[-1].price)
        gain = float(100 * (last - first) / first) if first else None
        rows.append((*place[:2], place.window_end.date(), place.symbol, float(first), float(last), gain))
    return sorted(rows, key=lambda row: (-row[1].timestamp(), row[0], row[3]))


def shown(query: str, as_of: datetime | None = None) -> list[Row]:
    found = Lake.open(as_of=as_of).sql(query)
    assert found is not None
    return found.fetchall()


def assert_gains(found: list[Row], expected: list[Row]) -> None:
    assert [row[:-1] for row in found] == [row[:-1] for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert row[-1] == (None if other[-1] is None else pytest.approx(other[-1], rel=1e-12)), row


def test_top_stocks_are_those_of_the_highest_means(lake: FeedLake) -> None:
    expected = top(lake.told())
    assert shown("FROM iex.top_stocks") == expected
    # What makes this hard is among them: ties of windows with other numbers of quotes, three lengths, two days.
    tied = {row[:2] for row in expected if [other[5] for other in expected if other[:2] == row[:2]].count(row[5]) > 1}
    assert tied
    assert {row[0] for row in expected} == {1, 5, 15}
    assert {row[2] for row in expected} == set(DAYS)


def test_gains_go_from_the_first_to_the_last_quote(lake: FeedLake) -> None:
    expected = gains(lake.told())
    assert_gains(shown("FROM iex.percentage_gains"), expected)
    assert any(row[6] is None for row in expected)
    assert any(row[6] for row in expected)
    of_one = [row for row in expected if row[3] == "NIL"]
    assert_gains(shown("SELECT * FROM iex.percentage_gains WHERE symbol = 'NIL'"), of_one)


def test_windows_that_are_still_open_are_not_shown(lake: FeedLake) -> None:
    newest = max(quote.event_time for quote in lake.told())
    for view in ("top_stocks", "percentage_gains"):
        ((shown_last,),) = shown(f"SELECT max(window_end) FROM iex.{view}")
        assert newest - timedelta(seconds=30) < shown_last <= newest - timedelta(seconds=20), view


@pytest.mark.parametrize("view", ["top_stocks", "percentage_gains"])
def test_the_first_rows_are_the_newest(lake: FeedLake, view: str) -> None:
    every = shown(f"FROM iex.{view}")
    for count in (1, 7, 20):
        assert shown(f"SELECT * FROM iex.{view} LIMIT {count}") == every[:count]


def test_the_views_as_of_a_moment_are_those_of_the_quotes_known_then(lake: FeedLake) -> None:
    told = lake.told()
    moments = sorted({quote.ingested_at for quote in told})
    seen = set()
    for moment in moments[3::6]:
        known = [quote for quote in told if quote.ingested_at <= moment]
        found = shown("FROM iex.top_stocks", moment)
        assert found == top(known)
        assert_gains(shown("FROM iex.percentage_gains", moment), gains(known))
        seen.add(len(found))
    assert len(seen) > 2


def test_the_command_line_shows_them_as_of_a_moment_too(lake: FeedLake) -> None:
    moment = sorted({quote.ingested_at for quote in lake.told()})[15]
    known = [quote for quote in lake.told() if quote.ingested_at <= moment]
    query = "SELECT symbol, price_rank FROM iex.top_stocks LIMIT 5"
    house = Lakehouse(Path(lake.lake.uri).parent)
    said_then = house.succeed("sql", query, "--as-of", moment.isoformat(), "--format", "csv").split()
    assert said_then == ["symbol,price_rank", *(f"{row[3]},{row[5]}" for row in top(known)[:5])]
    said_now = house.succeed("sql", query, "--format", "csv").split()
    assert said_now == ["symbol,price_rank", *(f"{row[3]},{row[5]}" for row in top(lake.told())[:5])]


@pytest.mark.parametrize("ranks", [1, 2, 9])
def test_how_many_ranks_and_which_lengths_are_settings(
    lake: FeedLake, monkeypatch: pytest.MonkeyPatch, ranks: int
) -> None:
    """Windows of a length that is not listed any more stay stored, and are not shown."""
    wanted = lake.described.config.windows.model_copy(update={"resolutions_minutes": (1, 15), "top": ranks})
    known = catalog.sources() | {"iex": lake.described.changed(windows=wanted)}
    monkeypatch.setattr(catalog, "sources", lambda _: known)
    assert shown("FROM iex.top_stocks") == [row for row in top(lake.told(), ranks) if row[0] != 5]
    assert shown("SELECT DISTINCT resolution_minutes FROM iex.percentage_gains ORDER BY ALL") == [(1,), (15,)]


@pytest.mark.parametrize("view", ["top_stocks", "percentage_gains"])
@pytest.mark.parametrize("day", DAYS)
def test_a_day_is_read_from_its_own_files(lake: FeedLake, view: str, day: date) -> None:
    of_day = f"FROM iex.{view} WHERE day = '{day}'"
    assert shown(of_day) == [row for row in shown(f"FROM iex.{view}") if row[2] == day]
    ((_, plan),) = shown(f"EXPLAIN {of_day}")
    scanned = re.search(r"Scanning Files:\s+(\d+)/(\d+)", plan)
    assert scanned, plan
    stored = lake.lake.table("iex/quote_windows").snapshot()
    assert int(scanned[1]) == len(stored.files({"day": [day]})) < len(stored.files())


def test_a_feed_without_a_closed_window_has_empty_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "young"))
    settings.cache_clear()
    young = FeedLake()
    young.tell([said("ONE", START, 1.0)])
    for moment in (None, datetime.now(UTC)):
        for view in ("top_stocks", "percentage_gains"):
            assert shown(f"FROM iex.{view}", moment) == []
            columns = [name for name, *_ in shown(f"DESCRIBE SELECT * FROM iex.{view}", moment)]
            assert columns == young.lake.table(f"iex/{view}").contract.column_names
