"""A derivation follows the change: what was made from the present inputs, by its fingerprint, is not derived again; and
whatever makes a fingerprint differ, or takes it away, leads to a derivation.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets_tests.support.vendor_lake import DAYS, KEY, NEW_YORK, SOURCE, VendorLake, small_market, vendor_lake
from lakehouse.derive.fingerprints import CONTENT, MADE_FROM, contents
from lakehouse.derive.rebuild import rebuild
from lakehouse.domains.market.bars import rules
from lakehouse.lake.releases import record_release, release_named, restore_tables
from lakehouse.simulators.us_market import UsMarket
from lakehouse.simulators.vendor_api import VendorApi

CLOCK = datetime(2020, 11, 28, 12, tzinfo=UTC)
DERIVED = ("bars", "daily_bars", "official_daily", "corporate_actions")


@pytest.fixture(scope="module")
def first_load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    market, home = small_market(), tmp_path_factory.mktemp("fingerprints") / "home"
    with vendor_lake(home, VendorApi(market, api_key=KEY, clock=CLOCK), market.symbols) as made:
        made.update()
    return home


@pytest.fixture
def market() -> UsMarket:
    return small_market()


@pytest.fixture
def lake(first_load: Path, own_environment: None, market: UsMarket, tmp_path: Path) -> Iterator[VendorLake]:
    """A lake after its first load."""
    shutil.copytree(first_load, tmp_path / "home")
    with vendor_lake(tmp_path / "home", VendorApi(market, api_key=KEY, clock=CLOCK), market.symbols) as made:
        yield made


class Work(NamedTuple):
    """The partitions of the tables by partition that a derivation looked at, and the rows that it changed."""

    bars: int
    bars_changed: int
    daily: int
    daily_changed: int


def derive(lake: VendorLake) -> Work:
    source, counts = lake.described, []
    for table in source.tables[:2]:
        done = [0]
        result = table.derive(
            lake.lake, source, DAYS, progress=lambda what, count, total, done=done: done.append(total)
        )
        counts += [done[-1], result.rows_changed]
    return Work(*counts)


def correct(lake: VendorLake, market: UsMarket, session: date) -> None:
    """Corrects the last close of a session."""
    symbol = market.symbols[0]
    bars = market.truth_bars().filter(symbol=symbol, session=session, segment="regular").filter(pl.col("volume") > 0)
    bar = bars.row(-1, named=True)
    market.correct(symbol, session, bar["start_at"].astimezone(NEW_YORK).time(), close=bar["close"] + 0.25)
    lake.api.clock = CLOCK + timedelta(days=1)
    lake.load_bars([session])


def test_what_is_up_to_date_is_not_looked_at_and_no_table_gets_a_version(lake: VendorLake) -> None:
    before = lake.versions()
    assert derive(lake) == Work(0, 0, 0, 0)
    lake.derive(DAYS)
    assert lake.versions() == before


def test_what_a_reader_of_the_same_process_holds_is_no_input(lake: VendorLake) -> None:
    held = [lake.lake.sql(f"FROM {SOURCE}.{table}") for table in ("raw_bars", "bars", "daily_bars")]
    assert derive(lake) == Work(0, 0, 0, 0)
    assert all(relation is not None and relation.fetchone() for relation in held)


def test_a_correction_is_followed_and_only_where_it_is(lake: VendorLake, market: UsMarket) -> None:
    daily = lake.lake.table(f"{SOURCE}/daily_bars")
    before = contents(daily.snapshot(), map(str, DAYS))
    correct(lake, market, DAYS[2])
    work = derive(lake)
    # The answer is about November; the first rows of that are all that a storage partition lost.
    assert 0 < work.bars < len(DAYS)
    assert (work.daily, work.bars_changed > 0) == (1, True)
    after = contents(daily.snapshot(), map(str, DAYS))
    # The next session shows the corrected close as its previous one, so that its content is another, too.
    assert {day for day in map(str, DAYS) if before[day] != after[day]} == {str(DAYS[2]), str(DAYS[3])}
    assert derive(lake) == Work(0, 0, 0, 0)
    assert not rebuild(lake.lake, lake.described, verify=True).differs


def test_a_setting_that_a_rule_reads_makes_fingerprints_differ(lake: VendorLake) -> None:
    lake.config = lake.config.model_copy(update={"minutes_after_close": 30})
    work = derive(lake)
    # All bars are looked at, and the daily bars of those sessions whose bars became regular ones.
    assert work.bars == len(DAYS)
    assert 0 < work.daily < len(DAYS)
    lake.config = lake.config.model_copy(update={"description": "said otherwise"})
    assert derive(lake) == Work(0, 0, 0, 0)


def test_a_change_of_a_helper_that_a_rule_calls_makes_fingerprints_differ(
    lake: VendorLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "falls_silent", lambda *_: "false")
    work = derive(lake)
    assert (work.bars, work.daily) == (0, len(DAYS))


@pytest.mark.parametrize("number", [0, 1])
def test_a_lost_or_damaged_fingerprint_leads_to_a_derivation(lake: VendorLake, number: int) -> None:
    before = lake.everything()
    for table in DERIVED:
        snapshot = lake.lake.table(f"{SOURCE}/{table}").snapshot()
        kept = {f"{prefix}{name}" for prefix in (MADE_FROM, CONTENT) for name in snapshot.marks(prefix)}
        assert kept
        snapshot.mark(dict.fromkeys(kept, number))
    work = derive(lake)
    assert work == Work(len(DAYS), 0, len(DAYS), 0)
    lake.derive(DAYS)
    for name, rows in lake.everything().items():
        assert_frame_equal(rows, before[name])


def test_restored_rows_are_not_taken_for_those_that_were_derived_last(lake: VendorLake, market: UsMarket) -> None:
    before = lake.everything()
    record_release(lake.lake, "before", None)
    correct(lake, market, DAYS[2])
    lake.derive(DAYS)
    restore_tables(lake.lake, release_named(lake.lake, "before"))
    work = derive(lake)
    assert work == Work(len(DAYS), 0, len(DAYS), 0)
    for name, rows in lake.everything().items():
        assert_frame_equal(rows, before[name])
    lake.load_bars([DAYS[2]])
    derive(lake)
    assert not rebuild(lake.lake, lake.described, verify=True).differs


def test_old_rows_without_fingerprints_are_compared_and_get_them(lake: VendorLake) -> None:
    table = lake.lake.table(f"{SOURCE}/bars")
    rows = table.to_polars().to_arrow()
    shutil.rmtree(table.uri)
    table.snapshot().append(rows.cast(table.contract.arrow_schema), ["rows"])
    assert table.snapshot().marks(MADE_FROM) == {}
    assert derive(lake)[:2] == (len(DAYS), 0)
    assert table.snapshot().marks(MADE_FROM).keys() == set(map(str, DAYS))
    assert derive(lake) == Work(0, 0, 0, 0)
