"""The dbt models of feeds: the windows of days that are over, as a fact and two views of it, built apart from what is
made from bars.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import Phase, assume, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from assets_tests.support.dbt_warehouse import (
    WEEK,
    Place,
    Warehouse,
    Window,
    Windows,
    built_elsewhere,
    write,
    write_windows,
)
from assets_tests.support.feed_lake import FeedLake, said
from assets_tests.support.soak import soak_count
from lakehouse.api import Lake
from lakehouse.catalog import feed_named
from lakehouse.domains.market.quotes.feed import Feed
from lakehouse.settings import settings
from lakehouse.warehouse.parts import MARKET_MARTS, QUOTE_MARTS, Part
from lakehouse.warehouse.publish import build_part, differing_marts, publication

NOON = {day: datetime(2024, 1, day, 12, 0, 5, tzinfo=UTC) for day in (2, 3, 4)}
NEXT = timedelta(seconds=10)
FEED_MARTS = ("fct_quote_window", "dim_resolution", "top_stocks", "percentage_gains")
FEW: Windows = {
    Place("A", NOON[2]): Window(10, 11),
    Place("B", NOON[2]): Window(0, 7),
    Place("A", NOON[2] + NEXT): Window(11, 11),
    Place("A", NOON[3]): Window(12, 9),
    Place("B", NOON[3], minutes=5): Window(8, 8, quote_count=30),
    Place("A", NOON[4]): Window(9, 9),
}


def feed(top: int = 3, lengths: tuple[int, ...] = (1, 5, 15)) -> Feed:
    """The feed with other settings of its windows."""
    said = feed_named("iex")
    windows = said.config.windows.model_copy(update={"top": top, "resolutions_minutes": lengths})
    return said.changed(windows=windows)


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse", feeds=[feed()])


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a first build of FEW, with its checks: tests look at it, or go on from it."""
    with built_elsewhere(tmp_path_factory.mktemp("few"), feeds=[feed()]) as made:
        write_windows(FEW)
        made.build(*QUOTE_MARTS.selection)
    return made.path


def test_the_running_day_is_not_published(warehouse: Warehouse) -> None:
    midnight = datetime.combine(datetime.now(UTC).date(), datetime.min.time(), UTC)
    # The end at midnight itself belongs to the day that it begins.
    ends = [midnight - timedelta(days=1), midnight - timedelta(microseconds=1), midnight, datetime.now(UTC)]
    write_windows({Place("A", end): Window() for end in ends})
    warehouse.build(*QUOTE_MARTS.selection)
    assert datetime.now(UTC).date() == midnight.date(), "a day began while this test ran"
    for mart in ("fct_quote_window", "top_stocks", "percentage_gains"):
        assert warehouse.query(f"select window_end from marts.{mart} order by all") == [(end,) for end in ends[:2]]


def test_marts_say_what_the_windows_say(warehouse: Warehouse, few: Path) -> None:
    warehouse.begin_with(few)
    assert warehouse.query("select count(*), sum(quote_count), count(distinct day) from marts.fct_quote_window") == [
        (6, 60, 3)
    ]
    assert warehouse.query("from marts.dim_resolution") == [("iex", minutes, 10, 5, 20, 3) for minutes in (1, 5, 15)]
    assert warehouse.query(
        "select symbol, first_price, last_price, percentage_gain from marts.percentage_gains where day = '2024-01-02'"
    ) == [("A", 11, 11, 0), ("A", 10, 11, 10), ("B", 0, 7, None)]
    columns = "source, day, resolution_minutes, price_rank, symbol, mean_price"
    assert warehouse.query(f"select {columns} from marts.top_stocks") == [
        ("iex", date(2024, 1, 4), 1, 1, "A", 9),
        ("iex", date(2024, 1, 3), 1, 1, "A", 10.5),
        ("iex", date(2024, 1, 3), 5, 1, "B", 8),
        ("iex", date(2024, 1, 2), 1, 1, "A", 11),
        ("iex", date(2024, 1, 2), 1, 1, "A", 10.5),
        ("iex", date(2024, 1, 2), 1, 2, "B", 3.5),
    ]  # fmt: skip


def test_ties_share_a_rank_and_ranks_end_where_the_settings_say(tmp_path: Path) -> None:
    prices = {"A": 5.0, "B": 9.0, "C": 5.0, "D": 9.0, "E": 1.0, "F": 5.0, "G": 0.0}
    write_windows({Place(symbol, NOON[2]): Window(price, price) for symbol, price in prices.items()})
    ranks = {"B": 1, "D": 1, "A": 3, "C": 3, "F": 3, "E": 6, "G": 7}
    for top in (1, 2, 3, 6):
        warehouse = Warehouse(tmp_path / f"top {top}", feeds=[feed(top)])
        warehouse.build(*QUOTE_MARTS.selection)
        found = dict(warehouse.query("select symbol, price_rank from marts.top_stocks"))
        assert found == {symbol: rank for symbol, rank in ranks.items() if rank <= top}


def test_a_length_that_is_not_listed_any_more_leaves_the_marts(warehouse: Warehouse, few: Path) -> None:
    write_windows(FEW)
    warehouse.begin_with(few)
    warehouse.sources = [feed(lengths=(1, 15))]
    warehouse.build(*QUOTE_MARTS.selection)
    assert warehouse.query("select distinct resolution_minutes from marts.fct_quote_window") == [(1,)]
    assert warehouse.query("select resolution_minutes from marts.dim_resolution order by all") == [(1,), (15,)]
    warehouse.sources = []
    warehouse.build(*QUOTE_MARTS.selection)
    for mart in FEED_MARTS:
        assert warehouse.query(f"select count(*) from marts.{mart}") == [(0,)]


def test_a_feed_without_windows_is_no_fault(warehouse: Warehouse) -> None:
    warehouse.build(*QUOTE_MARTS.selection)
    assert warehouse.query("select count(*) from marts.fct_quote_window") == [(0,)]
    assert warehouse.query("select count(*) from marts.top_stocks") == [(0,)]


places = st.builds(
    Place,
    st.sampled_from("AB"),
    st.builds(lambda day, n: NOON[day] + n * NEXT, st.sampled_from([2, 3, 4]), st.integers(0, 1)),
    st.sampled_from([1, 5]),
)
some_windows = st.builds(
    Window, st.sampled_from([0.0, 10.0]), st.sampled_from([10.0, 11.0]), st.integers(1, 2), st.integers(1, 2)
)


def differs_each_time(states: list[Windows]) -> bool:
    return all(earlier != later for earlier, later in pairwise(states))


# A failure isn't shrunk: an example takes seconds, and the examples are small. Each kind of change by itself is in
# CHANGES.
@pytest.mark.soak
@examples(max_examples=soak_count(2, 10), phases=[Phase.generate])
@given(states=st.lists(st.dictionaries(places, some_windows, min_size=2, max_size=8), min_size=3, max_size=3))
def test_incremental_builds_leave_the_rows_of_a_rebuild(
    tmp_path_factory: pytest.TempPathFactory, states: list[Windows]
) -> None:
    assume(differs_each_time(states))
    folder = tmp_path_factory.mktemp("history")
    grown, rebuilt = (Warehouse(folder / name, feeds=[feed()]) for name in ("grown", "rebuilt"))
    for state in states:
        write_windows(state)
        grown.run("+fct_quote_window")
    grown.build(*QUOTE_MARTS.selection)
    rebuilt.run(QUOTE_MARTS.selector)
    assert grown.content(FEED_MARTS) == rebuilt.content(FEED_MARTS)


CHANGES = {
    "nothing": (FEW, set()),
    "a late quote": (FEW | {Place("A", NOON[3]): Window(12, 9, quote_count=7, revision=2)}, {3}),
    "a new day": (FEW | {Place("A", NOON[4] + timedelta(days=1)): Window()}, {5}),
    "a window withdrawn": ({place: window for place, window in FEW.items() if place != Place("B", NOON[2])}, {2}),
    "a day withdrawn": ({place: window for place, window in FEW.items() if place.window_end != NOON[4]}, {4}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_only_changed_days_are_rewritten(warehouse: Warehouse, few: Path, change: str) -> None:
    after, expected = CHANGES[change]
    warehouse.begin_with(few)
    # What a build writes stands behind what is there: the rows that it kept go on being in this order.
    warehouse.change("create or replace table marts.fct_quote_window as from marts.fct_quote_window order by day desc")
    write_windows(after)
    warehouse.run("+fct_quote_window")
    days = [day for (day,) in warehouse.query("select day(day) from marts.fct_quote_window order by rowid")]
    stored = [place.window_end.day for place in after]
    kept = sorted((day for day in stored if day not in expected), reverse=True)
    assert days == kept + sorted(day for day in stored if day in expected)


def test_as_of_a_moment_windows_and_closed_days_are_those_of_that_moment(tmp_path: Path) -> None:
    lake = FeedLake()
    start = datetime.now(UTC) - timedelta(days=1)
    start = start.replace(hour=12, minute=0, second=0, microsecond=0)
    first, _ = lake.tell([said("A", start + n * NEXT, 10.0 + n) for n in range(12)])
    late, _ = lake.tell([said("A", start + NEXT / 2, 30.0)])
    found = {}
    for moment in (first.ingested_at, late.ingested_at):
        warehouse = Warehouse(tmp_path / f"{moment:%f}", feeds=[feed()], as_of=moment)
        warehouse.build(*QUOTE_MARTS.selection)
        columns = "resolution_minutes, window_end, symbol, quote_count, mean_price, revision"
        found[moment] = warehouse.query(f"select {columns} from marts.fct_quote_window order by all")
        known = Lake.open(as_of=moment).sql(f"SELECT {columns} FROM iex.quote_windows ORDER BY ALL")
        assert known is not None
        assert found[moment] == known.fetchall()
    assert len(found[first.ingested_at]) == len(found[late.ingested_at]) > 0
    assert {row[-1] for row in found[first.ingested_at]} == {1}
    assert {row[-1] for row in found[late.ingested_at]} == {1, 2}


def test_as_of_a_moment_the_running_day_is_the_one_that_was_running_then(tmp_path: Path) -> None:
    moments = [NOON[day] + n * NEXT for day in (2, 3) for n in range(6)]
    rows = [
        {"symbol": "A", "latest_price": 1.0, "event_time": moment, "day": moment.date()}
        | dict.fromkeys(("published_at", "ingested_at"), moment)
        for moment in moments
    ]
    table = Lake.open().table("iex/quotes")
    table.snapshot().append(pa.Table.from_pylist(rows, schema=table.contract.arrow_schema), ["test"])
    for moment, days in ((moments[-1], [2]), (moments[-1] + timedelta(days=1), [2, 3])):
        warehouse = Warehouse(tmp_path / f"{moment:%d}", feeds=[feed()], as_of=moment)
        warehouse.build(*QUOTE_MARTS.selection)
        found = warehouse.query("select distinct day(day) from marts.fct_quote_window order by all")
        assert found == [(day,) for day in days]


def published(query: str) -> list[tuple]:
    with duckdb.connect(str(settings().warehouse), read_only=True) as file:
        return file.execute(query).fetchall()


def test_what_is_made_from_bars_and_from_feeds_is_published_apart() -> None:
    counted = "select (select count(*) from marts.fct_daily_bar), (select count(*) from marts.fct_quote_window)"

    def build(part: Part) -> list[tuple]:
        with publication(settings()):
            assert build_part(settings(), part) == []
        return published(counted)

    # The first publication makes all tables there are, whatever it was for.
    assert build(MARKET_MARTS) == [(0, 0)]
    write(WEEK)
    write_windows(FEW)
    assert differing_marts(settings(), QUOTE_MARTS) == ["fct_quote_window"]
    assert build(QUOTE_MARTS) == [(0, 6)]
    write_windows({})
    assert build(MARKET_MARTS) == [(7, 6)]
    assert differing_marts(settings()) == ["fct_quote_window"]
    assert build(QUOTE_MARTS) == [(7, 0)]
    # The views find their tables by whatever name the file is attached.
    with duckdb.connect() as connection:
        connection.execute(f"attach '{settings().warehouse}' as other (read_only)")
        assert connection.execute("select count(*) from other.marts.top_stocks").fetchall() == [(0,)]


def test_as_of_a_moment_only_the_marts_that_are_asked_for_are_built() -> None:
    write(WEEK)
    write_windows(FEW)
    past = Lake.open(as_of=datetime.now(UTC))

    def answered(query: str) -> list[tuple]:
        found = past.sql(query)
        assert found is not None
        return found.fetchall()

    built = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'warehouse' ORDER BY ALL"
    assert answered("SELECT * FROM marts.top_stocks") == []
    (asked,) = past._marts_as_of.values()
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{asked.path}' AS warehouse (READ_ONLY)")
        assert connection.execute(built).fetchall() == [("dim_resolution",), ("fct_quote_window",)]
    with pytest.raises(duckdb.CatalogException, match=r"marts\.nonsense|nonsense does not exist"):
        answered("SELECT * FROM marts.nonsense")
    assert answered("SELECT count(*) > 0 FROM marts.dim_venue JOIN marts.dim_session USING (mic)") == [(True,)]
