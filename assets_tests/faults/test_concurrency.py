"""Writers at the same time, as real processes and in the few orders that have to be forced: the tables are in the
end as one undisturbed load and derivation would have left them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets_tests.support.described import with_bars
from assets_tests.support.reference import HEADER, csv_line
from assets_tests.support.soak import soak_count
from assets_tests.support.writers import run_at_once
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.errors import StaleSnapshot
from lakehouse.ingest.load import load
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import predicate
from lakehouse.settings import settings
from lakehouse.simulators.exchange import Exchange

SESSIONS = [date(2017, 6, day) for day in (27, 28, 29, 30)] + [date(2017, 7, day) for day in (3, 4, 5, 6)]
TABLES = ("xetra/raw_bars", "xetra/bars", "xetra/daily_bars", "ingest_ledger", "quarantine")


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated feed with all its dirt, over a month's end and a weekend of test bars."""
    folder = tmp_path_factory.mktemp("vendor")
    opens = {day: datetime(day.year, day.month, day.day, 7, tzinfo=UTC) for day in SESSIONS}
    hours = [(day, opening, opening + timedelta(hours=2)) for day, opening in opens.items()]
    Exchange(hours, seed=7, instruments=8, compress=False).write(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(vendor: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.DataFrame]:
    """The tables as one run on its own leaves them."""
    home = tmp_path_factory.mktemp("undisturbed")
    run_at_once(variables(home, vendor), [SESSIONS], random.Random(0))
    return contents(Lake(str(home / "lake")))


def variables(home: Path, vendor: Path) -> dict[str, str]:
    return {"LAKEHOUSE_HOME": str(home), "LAKEHOUSE_XETRA_URL": str(vendor)}


def contents(lake: Lake) -> dict[str, pl.DataFrame]:
    """Every table's rows in the order of their key, without what differs from run to run."""
    found = {}
    for name in TABLES:
        frame = lake.table(name).to_polars()
        key = [column for column in lake.table(name).contract.key if column in frame.columns]
        assert frame.select(key).is_duplicated().sum() == 0, name
        found[name] = frame.drop("ingested_at", "run_id", "load_date", strict=False).sort(key)
    return found


def assert_same(found: dict[str, pl.DataFrame], wanted: dict[str, pl.DataFrame]) -> None:
    for name in TABLES:
        assert_frame_equal(found[name], wanted[name], check_exact=True)


def assert_conserved(lake: Lake) -> None:
    rows = lake.sql("SELECT received, kept + duplicates + superseded + quarantined FROM lake.conservation").fetchall()
    assert rows
    assert all(received == fates for received, fates in rows)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(soak_count(2, 6)))
@pytest.mark.parametrize("workers", [2, 4])
def test_different_sessions_at_once(
    workers: int, seed: int, vendor: Path, undisturbed: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    jitter = random.Random(seed)
    shuffled = jitter.sample(SESSIONS, len(SESSIONS))
    run_at_once(variables(tmp_path, vendor), [shuffled[place::workers] for place in range(workers)], jitter)
    assert_same(contents(Lake(str(tmp_path / "lake"))), undisturbed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(soak_count(2, 6)))
@pytest.mark.parametrize("workers", [2, 4])
def test_the_same_sessions_at_once_are_loaded_once(
    workers: int,
    seed: int,
    vendor: Path,
    undisturbed: dict[str, pl.DataFrame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path))
    settings.cache_clear()
    run_at_once(variables(tmp_path, vendor), [SESSIONS] * workers, random.Random(seed))
    lake = Lake(str(tmp_path / "lake"))
    assert_same(contents(lake), undisturbed)
    assert_conserved(lake)


# The orders in which two writers can meet, forced one by one


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, date, float], None]]:
    """A lake of its own and a vendor's folder; the fixture publishes a bar at 08:00 of a session with a close."""
    folder = tmp_path / "feed"
    folder.mkdir()
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", str(folder))
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    settings.cache_clear()

    def publish(time_of_day: str, session: date, close: float) -> None:
        row = ("DE0005190003", "BMW", "BMW", "Common stock", "EUR", "1", str(session), time_of_day,
               str(close), str(close), str(close), str(close), "100", "1")  # fmt: skip
        path = folder / f"{session}" / f"{session}_BINS_XETR{time_of_day[:2]}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(",".join(HEADER) + "\n" + csv_line(row) + "\n")
        publish.clock += 1
        os.utime(path, (publish.clock,) * 2)

    publish.clock = 1_499_000_000
    yield publish
    settings.cache_clear()


def daily(lake: Lake) -> list[tuple[date, float, date | None, float | None]]:
    return lake.sql("SELECT session, close, prev_session, prev_close FROM xetra.daily_bars ORDER BY session").fetchall()


def meanwhile(monkeypatch: pytest.MonkeyPatch, table: str, other: Callable[[], object], times: int = 1) -> None:
    """Runs `other` once a writer has worked out what to write into `table`, before it commits."""
    overwrite, left = Snapshot.overwrite, [times]

    def late(self: Snapshot, *args: object, **more: object) -> int:
        if self.table.name == table and left[0]:
            left[0] -= 1
            other()
        return overwrite(self, *args, **more)

    monkeypatch.setattr(Snapshot, "overwrite", late)


JUNE, JULY, LATER = SESSIONS[3], SESSIONS[4], SESSIONS[5]
YEAR_END, NEW_YEAR = date(2017, 12, 29), date(2018, 1, 2)


@pytest.mark.parametrize(("mine", "others"), [(YEAR_END, NEW_YEAR), (NEW_YEAR, YEAR_END)])
@pytest.mark.parametrize("already", [False, True], ids=["new table", "existing table"])
def test_daily_bars_of_neighbouring_years_derived_at_once_are_linked(
    mine: date, others: date, already: bool, small: Callable[[str, date, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each derivation alone sees no row of the other's session, and they write different partitions."""
    source, lake = source_named("xetra"), Lake.open()
    sessions = [SESSIONS[0], YEAR_END, NEW_YEAR]
    if already:
        small("08:00", SESSIONS[0], 9.0)
        load(lake, source.bars, sessions)
        derive_bars(lake, source, sessions)
        derive_daily_bars(lake, source, sessions)
    small("08:00", YEAR_END, 10.0)
    small("08:00", NEW_YEAR, 11.0)
    load(lake, source.bars, sessions)
    derive_bars(lake, source, sessions)
    meanwhile(monkeypatch, "xetra/daily_bars", lambda: derive_daily_bars(lake, source, [others]))
    derive_daily_bars(lake, source, [mine])
    first = [(SESSIONS[0], 9.0, None, None)] if already else []
    link = (SESSIONS[0], 9.0) if already else (None, None)
    assert daily(lake) == [*first, (YEAR_END, 10.0, *link), (NEW_YEAR, 11.0, YEAR_END, 10.0)]


@pytest.mark.parametrize("table", ["xetra/bars", "xetra/daily_bars"])
def test_a_derivation_from_older_rows_does_not_win(
    table: str, small: Callable[[str, date, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A correction is loaded and derived while the first version's derivation is about to commit."""
    source, lake = source_named("xetra"), Lake.open()

    def take() -> None:
        load(lake, source.bars, SESSIONS)
        derive_bars(lake, source, SESSIONS)
        derive_daily_bars(lake, source, SESSIONS)

    def correct() -> None:
        small("08:00", JUNE, 12.0)
        take()

    small("08:00", JUNE, 10.0)
    meanwhile(monkeypatch, table, correct)
    take()
    assert daily(lake) == [(JUNE, 12.0, None, None)]


@pytest.mark.parametrize("table", ["xetra/bars", "xetra/daily_bars"])
def test_a_correction_of_a_correction_meets_the_derivation_of_the_first(
    table: str, small: Callable[[str, date, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second correction withdraws the first one's bars again, so its own derivation finds nothing to write."""
    source, lake = source_named("xetra"), Lake.open()

    def take() -> None:
        load(lake, source.bars, SESSIONS)
        derive_bars(lake, source, SESSIONS)
        derive_daily_bars(lake, source, SESSIONS)

    def withdraw() -> None:
        path = Path(settings().source_variable("xetra", "url")) / f"{JUNE}/{JUNE}_BINS_XETR09.csv"
        path.write_text(",".join(HEADER) + "\n")
        os.utime(path, (1_500_000_000,) * 2)
        take()

    small("08:00", JUNE, 10.0)
    take()
    small("09:00", JUNE, 12.0)
    meanwhile(monkeypatch, table, withdraw)
    take()
    assert daily(lake) == [(JUNE, 10.0, None, None)]
    assert lake.table("xetra/bars").to_polars().height == 1


@pytest.mark.parametrize("rows", [True, False], ids=["partition with rows", "empty partition"])
def test_two_overwrites_of_a_partition_from_one_snapshot(rows: bool, small: Callable[[str, date, float], None]) -> None:
    source, lake = source_named("xetra"), Lake.open()
    small("08:00", JUNE, 10.0)
    small("08:00", JULY, 11.0)
    load(lake, source.bars, SESSIONS)
    derive_bars(lake, source, [JUNE, JULY] if rows else [JUNE])
    table = lake.table("xetra/bars")
    made = pl.DataFrame(table.to_polars().head(1).with_columns(session=pl.lit(JULY))).to_arrow()
    one, two = table.snapshot(), table.snapshot()
    where = predicate({"session": [JULY]})
    one.overwrite(made, where)
    with pytest.raises(StaleSnapshot):
        two.overwrite(made, where)
    assert table.to_polars().filter(pl.col("session") == JULY).height == 1


# What is counted after a race


def test_what_was_committed_from_outdated_inputs_counts_beside_what_follows(
    small: Callable[[str, date, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A correction of June comes while June and July are derived: three rows are written, and each counts once."""
    source, lake = source_named("xetra"), Lake.open()
    small("08:00", JUNE, 10.0)
    small("08:00", JULY, 11.0)
    load(lake, source.bars, SESSIONS)

    def correct() -> None:
        small("08:00", JUNE, 12.0)
        load(lake, source.bars, SESSIONS)

    meanwhile(monkeypatch, "xetra/bars", correct)
    made = derive_bars(lake, source, [JUNE, JULY])
    assert (made.rows, made.rows_changed, made.commits) == (2, 3, 2)
    assert made.changed == {JUNE, JULY}
    assert lake.table("xetra/bars").to_polars().height == 2


def test_a_derivation_that_another_one_forestalled_counts_its_rows_once(
    small: Callable[[str, date, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, lake = source_named("xetra"), Lake.open()
    small("08:00", JUNE, 10.0)
    load(lake, source.bars, SESSIONS)
    meanwhile(monkeypatch, "xetra/bars", lambda: derive_bars(lake, source, SESSIONS))
    made = derive_bars(lake, source, SESSIONS)
    assert (made.rows, made.rows_changed, made.commits, made.changed) == (1, 0, 0, set())


def test_a_load_counts_new_and_repaired_objects_whatever_order_their_answers_are_committed_in(
    small: Callable[[str, date, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One object is new, another failed before; meanwhile another writer changes the ledger."""
    source, lake = source_named("xetra"), Lake.open()
    small("08:00", JUNE, 10.0)
    wrong = with_bars(source, format="parquet")
    assert load(lake, wrong.bars, SESSIONS).objects["failed"] == 1
    ledger = lake.table("ingest_ledger")
    small("08:00", JULY, 11.0)

    def touch() -> None:
        stored = ledger.to_polars().filter(pl.col("status") == "failed").with_columns(run_id=pl.lit("other"))
        ledger.snapshot().overwrite(stored.to_arrow(), predicate({"source": ["xetra"]}) + " AND status = 'failed'")

    meanwhile(monkeypatch, "ingest_ledger", touch)
    result = load(lake, source.bars, SESSIONS)
    assert (result.objects, result.rows_received) == ({"loaded": 2, "empty": 0, "failed": 0}, 2)
    assert sorted(ledger.to_polars()["status"]) == ["failed", "loaded", "loaded"]
