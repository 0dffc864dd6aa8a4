"""The dbt models, built over a small lake of real Delta tables: what the marts hold, and that an incremental build
leaves what a rebuild would.
"""

from __future__ import annotations

import shutil
from datetime import date
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from assets_tests.support.dbt_warehouse import (
    FILES,
    FRIDAY,
    MARTS,
    MONDAY,
    SATURDAY,
    THURSDAY,
    TUESDAY,
    VENDOR,
    VIEWS,
    WEDNESDAY,
    WEEK,
    Bar,
    Bars,
    Key,
    Warehouse,
    built_elsewhere,
    write,
)
from assets_tests.support.described import changed
from assets_tests.support.soak import soak_count
from lakehouse import catalog
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars.config import Calendar
from lakehouse.settings import settings as project_settings
from lakehouse.warehouse.publish import publish


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse")


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a first build of WEEK, with all checks: tests look at it, or go on from it."""
    with built_elsewhere(tmp_path_factory.mktemp("week")) as made:
        write(WEEK)
        made.build()
    return made.path


def test_the_file_holds_the_marts_and_nothing_of_the_lake(warehouse: Warehouse, week: Path) -> None:
    write(WEEK)
    warehouse.begin_with(week)
    warehouse.build()  # an incremental build must not leave anything behind either

    tables = warehouse.query("select schema_name, table_name from duckdb_tables() order by all")
    assert tables == [("marts", mart) for mart in MARTS]
    views = warehouse.query("select schema_name, view_name from duckdb_views() where not internal order by all")
    assert views == [("marts", view) for view in VIEWS]
    assert warehouse.query("select database_name from duckdb_databases() where not internal") == [("warehouse",)]


def test_marts_say_what_the_bars_say(warehouse: Warehouse, week: Path) -> None:
    warehouse.begin_with(week)
    assert warehouse.query(
        "select symbol, valid_from, valid_to, is_current from marts.dim_instrument "
        "where instrument_id = 'A' and currency = 'EUR' order by valid_from"
    ) == [("AAA", TUESDAY, FRIDAY, False), ("BBB", FRIDAY, date(9999, 12, 31), True)]
    assert warehouse.query(
        "select session, symbol, close, prev_close, change from marts.daily_summary "
        "where instrument_id = 'A' and currency = 'EUR' order by session"
    ) == [(TUESDAY, "AAA", 10, None, None), (WEDNESDAY, "AAA", 11, 10, 1), (FRIDAY, "BBB", 12, 11, 1)]
    assert warehouse.query(
        "select instrument_id, gain_rank, loss_rank from marts.daily_movers "
        "where session = '2024-01-03' order by gain_rank"
    ) == [("A", 1, 2), ("B", 2, 1)]
    assert warehouse.query(
        "select currency, instrument_id, turnover_rank from marts.most_traded_by_value "
        "where session = '2024-01-02' order by all"
    ) == [("EUR", "A", 1), ("EUR", "B", 2), ("USD", "A", 1)]
    assert warehouse.query(
        "select session_count, average_range_pct from marts.average_range "
        "where instrument_id = 'A' and currency = 'USD'"
    ) == [(1, pytest.approx(200 / 19))]
    assert warehouse.query(
        "select previous_session, next_session, weekday from marts.dim_session where session = '2024-01-05'"
    ) == [(THURSDAY, MONDAY, 5)]


keys = st.builds(
    Key,
    st.sampled_from(["A", "B"]),
    st.sampled_from([TUESDAY, WEDNESDAY, THURSDAY, FRIDAY]),
    st.sampled_from(["EUR", "USD"]),
)
bars = st.builds(
    Bar,
    st.sampled_from([10.0, 11.0]),
    st.sampled_from(["AAA", "BBB"]),
    st.sampled_from([100, 200]),
    st.booleans(),
)


def differs_each_time(states: list[Bars]) -> bool:
    return all(earlier != later for earlier, later in pairwise(states))


# A failure isn't shrunk: at three seconds an example that takes minutes, and the examples are small. Each kind of
# change by itself is in CHANGES.
@pytest.mark.soak
@settings(max_examples=soak_count(1, 10), phases=[Phase.generate])
@given(states=st.lists(st.dictionaries(keys, bars, min_size=2, max_size=8), min_size=3, max_size=3))
def test_incremental_builds_leave_the_rows_of_a_rebuild(
    tmp_path_factory: pytest.TempPathFactory, states: list[Bars]
) -> None:
    assume(differs_each_time(states))
    folder = tmp_path_factory.mktemp("history")
    grown = Warehouse(folder / "grown")
    rebuilt = Warehouse(folder / "rebuilt")
    for state in states:
        write(state)
        grown.run("+fct_daily_bar")
    grown.build()
    rebuilt.run()

    assert grown.content() == rebuilt.content()


CHANGES = {
    "nothing": (WEEK, set()),
    "a corrected price": (WEEK | {Key("B", THURSDAY): Bar(4.6, symbol="B")}, {THURSDAY}),
    "a price that the next session's change depends on": (
        WEEK | {Key("B", WEDNESDAY): Bar(3, symbol="B")},
        {WEDNESDAY, THURSDAY},
    ),
    "a session that becomes incomplete": (WEEK | {Key("B", THURSDAY): Bar(4.5, "B", is_complete=False)}, {THURSDAY}),
    "a session of which it isn't known": (WEEK | {Key("B", THURSDAY): Bar(4.5, "B", is_complete=None)}, {THURSDAY}),
    "a row withdrawn": ({key: bar for key, bar in WEEK.items() if key != Key("A", TUESDAY, "USD")}, {TUESDAY}),
    "a session withdrawn": ({key: bar for key, bar in WEEK.items() if key.session != FRIDAY}, {FRIDAY}),
    "a new session": (WEEK | {Key("A", MONDAY): Bar(13, "BBB")}, {MONDAY}),
    "an instrument renamed from its last session on": (WEEK | {Key("B", THURSDAY): Bar(4.5, "C")}, {THURSDAY}),
    "an instrument renamed from its first session on": (
        {key: bar._replace(symbol="C") if key.instrument_id == "B" else bar for key, bar in WEEK.items()},
        set(),  # the version's key stays, and the fact carries no names
    ),
    "a rename that comes earlier": (WEEK | {Key("A", WEDNESDAY): Bar(11, "BBB")}, {WEDNESDAY, FRIDAY}),
    "an instrument that begins later": (
        {key: bar for key, bar in WEEK.items() if key != Key("B", TUESDAY)},
        {TUESDAY, WEDNESDAY, THURSDAY},
    ),
    "two rows that swap their prices": (
        WEEK | {Key("A", TUESDAY): Bar(5), Key("B", TUESDAY): Bar(10, symbol="B")},
        {TUESDAY, WEDNESDAY},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_only_changed_sessions_are_rewritten(warehouse: Warehouse, week: Path, change: str) -> None:
    after, expected = CHANGES[change]
    warehouse.begin_with(week)
    # A build inserts in ascending order: behind the rows turned round here stand those that it wrote.
    warehouse.change(
        "create or replace table marts.fct_daily_bar as "
        "from marts.fct_daily_bar order by session desc, instrument_id desc, currency desc"
    )
    write(after)
    warehouse.run("+fct_daily_bar")

    rows = [(key.session, key.instrument_id, key.currency) for key in after]
    kept = sorted((row for row in rows if row[0] not in expected), reverse=True)
    rewritten = sorted(row for row in rows if row[0] in expected)
    stored = warehouse.query("select session, instrument_id, currency from marts.fct_daily_bar order by rowid")
    assert stored == kept + rewritten


def test_a_source_that_is_not_configured_any_more_leaves_the_warehouse(tmp_path: Path) -> None:
    write(WEEK)
    write({Key("AAPL", TUESDAY, "USD"): Bar(185, "AAPL")}, VENDOR)
    models = ("+fct_daily_bar", "dim_venue")
    both = Warehouse(tmp_path / "both", FILES, VENDOR)
    both.run(*models)
    assert both.query("select source, count(*) from marts.fct_daily_bar group by source order by source") == [
        (VENDOR, 1),
        (FILES, 7),
    ]
    assert len(both.query("select mic from marts.dim_venue")) == 2

    one = Warehouse(tmp_path / "one")
    one.begin_with(both.path)
    one.run(*models)
    assert one.query("select distinct source from marts.fct_daily_bar") == [(FILES,)]
    assert one.query("select mic from marts.dim_venue") == [("XETR",)]


def test_two_vendors_of_one_venue_share_its_rows(tmp_path: Path) -> None:
    """They describe it in other words, follow other calendars and have the same instrument."""
    write(WEEK)
    write({Key("A", TUESDAY, "EUR"): Bar(185, "AAPL"), Key("B", SATURDAY, "EUR"): Bar(3, "B")}, VENDOR)
    both = Warehouse(tmp_path / "shared", FILES, VENDOR)
    venue = source_named(FILES).config.venue
    crypto = {"calendar": Calendar.model_validate("24/7"), "first_session": date(2024, 1, 2)}
    other = changed(source_named(VENDOR), venue=venue.model_copy(update={"name": "XETRA", "country": "LU"}), **crypto)
    both.sources = [other if each.name == VENDOR else each for each in both.sources]
    both.build()
    assert both.query("select mic, name, country from marts.dim_venue") == [("XETR", "XETRA", "LU")]
    assert both.query(
        "select source, count(*) from marts.fct_daily_bar where mic = 'XETR' group by all order by all"
    ) == [
        (VENDOR, 2),
        (FILES, 7),
    ]


def test_a_source_with_a_faulty_yaml_keeps_its_published_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of others are published, and its own again once the file is corrected."""
    defs = Path(shutil.copytree(catalog.DEFS, tmp_path / "defs"))
    file = defs / "market" / VENDOR / "defs.yaml"
    text = file.read_text()
    monkeypatch.setattr(catalog, "DEFS", defs)
    config = project_settings()

    def published(close: float, yaml: str) -> list[tuple]:
        for source in (FILES, VENDOR):
            write({Key("A", TUESDAY, "USD" if source == VENDOR else "EUR"): Bar(close, "A")}, source)
        file.write_text(yaml)
        catalog._described.cache_clear()
        publish(config)
        with duckdb.connect(str(config.warehouse), read_only=True) as marts:
            return marts.execute("SELECT source, close FROM marts.fct_daily_bar ORDER BY ALL").fetchall()

    assert published(1, text) == [(VENDOR, 1), (FILES, 1)]
    assert published(2, text.replace("calendar: XNYS", "calendar: XNYX")) == [(VENDOR, 1), (FILES, 2)]
    # A valid one whose calendar ends before its first session.
    assert published(3, text.replace("first_session: ", "first_session: 2099-01-01 #")) == [(VENDOR, 1), (FILES, 3)]
    assert published(4, text) == [(VENDOR, 4), (FILES, 4)]
    catalog._described.cache_clear()


def test_a_source_without_bars_is_no_fault(warehouse: Warehouse) -> None:
    warehouse.build()
    assert warehouse.query("select count(*) from marts.fct_daily_bar") == [(0,)]
    assert warehouse.query("select mic from marts.dim_venue") == [("XETR",)]


def test_a_table_that_forbids_null_where_the_model_allows_it_is_built_anew(warehouse: Warehouse, week: Path) -> None:
    """Published by a release in which every session was known to be whole or not."""
    warehouse.begin_with(week)
    warehouse.change("alter table marts.fct_daily_bar alter is_complete set not null")
    unknown = WEEK | {Key("B", THURSDAY): Bar(4.5, "B", is_complete=None)}
    write(unknown)
    warehouse.run("+fct_daily_bar")
    assert warehouse.query("select session from marts.fct_daily_bar where is_complete is null") == [(THURSDAY,)]


@pytest.mark.parametrize("change", ["columns", "a type"])
def test_a_table_of_other_columns_is_built_anew(warehouse: Warehouse, week: Path, change: str) -> None:
    write(WEEK)
    warehouse.begin_with(week)
    rows = warehouse.content()
    columns = warehouse.query("describe marts.fct_daily_bar")
    warehouse.change(
        "alter table marts.fct_daily_bar drop trades; alter table marts.fct_daily_bar add column retired integer;"
        if change == "columns"
        else "alter table marts.fct_daily_bar alter volume type double"
    )
    warehouse.run("fct_daily_bar")
    assert warehouse.content() == rows
    assert warehouse.query("describe marts.fct_daily_bar") == columns
