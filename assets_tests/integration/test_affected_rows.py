"""What a change of one session does to the rows of others: exactly the row that follows, however far away."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from assets_tests.support.reference import HEADER, csv_line
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.derive import by_partition
from lakehouse.derive.fingerprints import outdated
from lakehouse.domains.market.bars import derive as bar_derivations
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.ingest.load import load

FIRST, SECOND, THIRD, FOURTH = date(2017, 6, 29), date(2017, 6, 30), date(2017, 7, 3), date(2017, 7, 4)
MUCH_LATER = date(2018, 2, 1)
Take = Callable[[date, float | None], int]


@pytest.fixture
def take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Take:
    """Publishes a session's object with a bar of that close (None: header only; negative: cut), loads and derives that
    session alone, and returns how many daily rows changed."""
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", str(tmp_path))
    clock = iter(range(1_520_000_000, 1_530_000_000))

    def taken(session: date, close: float | None) -> int:
        lines = [",".join(HEADER)]
        if close is not None:
            row = (
                "DE0005190003",
                "BMW",
                "BMW",
                "Common stock",
                "EUR",
                "1",
                str(session),
                "10:00",
                *[str(close)] * 4,
                "5",
                "1",
            )
            lines.append(csv_line(row))
        path = tmp_path / f"{session}" / f"{session}_BINS_XETR10.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("<html>" if close is not None and close < 0 else "\n".join(lines) + "\n")
        os.utime(path, (next(clock),) * 2)
        lake, source = Lake.open(), source_named("xetra")
        load(lake, source.bars, [session])
        derive_bars(lake, source, [session])
        return derive_daily_bars(lake, source, [session]).rows_changed

    return taken


def links() -> list[tuple[date, float, date | None, float | None]]:
    return (
        Lake.open()
        .sql("SELECT session, close, prev_session, prev_close FROM xetra.daily_bars ORDER BY session")
        .fetchall()
    )


def test_a_late_session_changes_its_follower_alone(take: Take) -> None:
    assert [take(session, close) for session, close in ((FIRST, 1.0), (THIRD, 3.0), (FOURTH, 4.0))] == [1, 1, 1]
    assert take(SECOND, 2.0) == 2
    assert links() == [
        (FIRST, 1.0, None, None),
        (SECOND, 2.0, FIRST, 1.0),
        (THIRD, 3.0, SECOND, 2.0),
        (FOURTH, 4.0, THIRD, 3.0),
    ]


def test_a_withdrawn_session_hands_its_follower_to_the_one_before(take: Take) -> None:
    for session, close in ((FIRST, 1.0), (SECOND, 2.0), (THIRD, 3.0), (FOURTH, 4.0)):
        take(session, close)
    assert take(SECOND, None) == 2
    assert links() == [(FIRST, 1.0, None, None), (THIRD, 3.0, FIRST, 1.0), (FOURTH, 4.0, THIRD, 3.0)]
    assert take(FIRST, None) == 2
    assert links() == [(THIRD, 3.0, None, None), (FOURTH, 4.0, THIRD, 3.0)]


def test_a_corrected_close_changes_its_follower_alone(take: Take) -> None:
    for session, close in ((FIRST, 1.0), (SECOND, 2.0), (THIRD, 3.0), (FOURTH, 4.0)):
        take(session, close)
    assert take(SECOND, 2.5) == 2
    assert links()[2] == (THIRD, 3.0, SECOND, 2.5)
    assert take(SECOND, 2.5) == 0


def test_a_follower_may_be_months_away(take: Take) -> None:
    take(FIRST, 1.0)
    take(MUCH_LATER, 9.0)
    assert links()[1] == (MUCH_LATER, 9.0, FIRST, 1.0)
    assert take(FIRST, 1.5) == 2
    assert take(SECOND, 2.0) == 2
    assert links()[2] == (MUCH_LATER, 9.0, SECOND, 2.0)
    assert take(SECOND, None) == 2
    assert links()[1] == (MUCH_LATER, 9.0, FIRST, 1.5)


def test_a_damaged_version_leaves_the_older_one_in_force(take: Take) -> None:
    take(FIRST, 1.0)
    assert take(FIRST, -1.0) == 0
    assert links() == [(FIRST, 1.0, None, None)]
    assert take(FIRST, 1.25) == 1


def test_a_correction_opens_no_file_of_years_without_its_neighbours(take: Take) -> None:
    for session in (FIRST, date(2018, 5, 2), date(2018, 5, 3), date(2018, 5, 4), date(2019, 5, 3)):
        take(session, float(session.year))
    folder = Path(Lake.open().table("xetra/daily_bars").uri)
    years = [folder / f"year={year}-01-01" for year in (2017, 2019)]
    for year in years:
        year.rename(f"{year}.away")
    assert take(date(2018, 5, 3), 3.0) == 2
    for year in years:
        Path(f"{year}.away").rename(year)
    assert links()[1:] == [
        (date(2018, 5, 2), 2018.0, FIRST, 2017.0),
        (date(2018, 5, 3), 3.0, date(2018, 5, 2), 2018.0),
        (date(2018, 5, 4), 2018.0, date(2018, 5, 3), 3.0),
        (date(2019, 5, 3), 2019.0, date(2018, 5, 4), 2018.0),
    ]


def test_daily_bars_of_several_years_are_one_commit_each(take: Take) -> None:
    days = (FIRST, SECOND, MUCH_LATER, date(2018, 2, 2))
    for day in days:
        take(day, 1.0)
    lake, source = Lake.open(), source_named("xetra")
    lake.table("xetra/daily_bars").snapshot().delete("true")
    made = derive_daily_bars(lake, source, days)
    assert (made.commits, made.rows_changed) == (2, 4)
    assert len(lake.table("xetra/daily_bars").snapshot().files()) == 2
    assert [row[2] for row in links()] == [None, FIRST, SECOND, MUCH_LATER]


def test_reading_as_of_a_moment_derives_only_what_has_changed_since(take: Take) -> None:
    for session, close in ((FIRST, 1.0), (SECOND, 2.0), (THIRD, 3.0)):
        take(session, close)
    tables = ("bars", "daily_bars")
    before, moment = {name: rows(name) for name in tables}, datetime.now(UTC)
    assert {name: rows(name, moment) for name in tables} == before
    take(SECOND, 2.5)
    take(FOURTH, 4.0)
    assert rows("daily_bars") != before["daily_bars"]
    raw = Path(Lake.open().table("xetra/raw_bars").uri)
    unchanged = [raw / f"session={session}" for session in (FIRST, THIRD)]
    for folder in unchanged:
        folder.rename(f"{folder}.away")
    assert {name: rows(name, moment) for name in tables} == before
    now = datetime.now(UTC)
    (raw / f"session={SECOND}").rename(raw / "away")
    assert {name: rows(name, now) for name in tables} == {name: rows(name) for name in tables}


def test_one_lake_compares_its_moment_with_the_stored_rows_once(take: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def counted(*arguments: Any) -> list[str]:
        compared.append(arguments[0].table.name)
        return outdated(*arguments)

    for module in (by_partition, bar_derivations):
        monkeypatch.setattr(module, "outdated", counted)
    take(FIRST, 1.0)
    take(SECOND, 2.0)
    past, before = Lake.open(as_of=datetime.now(UTC)), rows("daily_bars")
    compared.clear()

    def known() -> list[dict[str, Any]]:
        found = past.sql("FROM xetra.daily_bars ORDER BY ALL")
        assert found is not None
        return found.pl().to_dicts()

    assert known() == before
    assert compared == ["xetra/bars", "xetra/daily_bars"]
    assert known() == before
    assert len(compared) == 2
    # Another version of the tables is compared anew.
    take(SECOND, 2.5)
    compared.clear()
    assert known() == before
    assert compared == ["xetra/bars", "xetra/daily_bars"]


def test_reading_as_of_a_moment_does_not_trust_rows_that_were_not_derived_since(take: Take, tmp_path: Path) -> None:
    take(FIRST, 1.0)
    path = tmp_path / f"{FIRST}" / f"{FIRST}_BINS_XETR10.csv"
    path.write_text(path.read_text().replace("1.0,1.0,1.0,1.0", "7.0,7.0,7.0,7.0"))
    load(Lake.open(), source_named("xetra").bars, [FIRST])
    for name in ("bars", "daily_bars"):
        stored, known = rows(name), rows(name, datetime.now(UTC))
        assert ({row["close"] for row in stored}, {row["close"] for row in known}) == ({1.0}, {7.0})


def rows(table: str, as_of: datetime | None = None) -> list[dict[str, Any]]:
    found = Lake.open(as_of=as_of).sql(f"FROM xetra.{table} ORDER BY ALL")
    assert found is not None
    return found.pl().to_dicts()
