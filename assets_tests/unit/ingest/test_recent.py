"""Listing where news can be: which patterns tell it, and which folders are listed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse.ingest import recent
from lakehouse.ingest.folder import Folder
from lakehouse.ingest.names import Objects
from lakehouse.ingest.recent import DayFolders, day_folders, list_recent

DAYS = [date(2024, 1, 1) + timedelta(days=number) for number in range(60)]
FOLDERS = DayFolders("", "%Y-%m-%d")


@pytest.fixture(autouse=True)
def place_counts_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it holds."""
    monkeypatch.setattr(recent, "FEW", 0)


@pytest.mark.parametrize(
    ("pattern", "below"),
    [
        (r"(?P<date>\d{4}-\d{2}-\d{2})/(?P=date)_BINS_XETR(?P<hour>\d{2})\.csv(\.gz)?", ""),
        (r"raw/bars/(?P<date>[\d-]{10})/.*", "raw/bars/"),
        (r"(?P<date>(\d{4})-(\d{2})-\d{2})/x", ""),
        (r"(?P<date>[(\d-]+)/x", ""),
        # The date is not a whole folder, or in no known one.
        (r"(?P<date>\d{4}-\d{2}-\d{2})_(?P<hour>\d{2})\.csv", None),
        (r"(?P<symbol>[A-Z]+)/(?P<date>\d{4}-\d{2}-\d{2})/x", None),
        (r"(?:raw/)?(?P<date>\d{4}-\d{2}-\d{2})/x", None),
        (r"day(?P<date>\d{4}-\d{2}-\d{2})/x", None),
        # Another branch may lie elsewhere.
        (r"(?P<date>\d{4}-\d{2}-\d{2})/x|.*", None),
        (r"(?P<date>\d{4}-\d{2}-\d{2})/(x|y)", ""),
        (r"(?P<date>\d{4}-\d{2}-\d{2})/((x|y)|z)", None),
    ],
)
def test_day_folders__are_told_by_the_pattern(pattern: str, below: str | None) -> None:
    found = day_folders(Objects(pattern=pattern, holds="day"))
    assert found == (None if below is None else DayFolders(below, "%Y-%m-%d"))


def test_day_folders__cannot_be_told_of_dates_in_several_folders() -> None:
    assert day_folders(Objects(pattern="(?P<date>.*)/x", holds="day", date_format="%Y/%m/%d")) is None


def ledger(days: Iterable[date], failed: Collection[date] = (), below: str = "") -> pl.LazyFrame:
    """The entries of one object for each day."""
    known = datetime(2024, 6, 1, tzinfo=UTC)
    rows = [
        {
            "object": f"{below}{day}/a.csv",
            "product": "bars",
            "first_session": day,
            "last_session": day,
            "status": "failed" if day in failed else "loaded",
            "error": None,
            "sequence": 1,
            "ingested_at": known,
            "published_at": known,
        }
        for day in days
    ]
    return pl.LazyFrame(rows)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with one object for each day."""
    for day in DAYS:
        (tmp_path / str(day)).mkdir()
        (tmp_path / str(day) / "a.csv").write_text("a")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "a.csv").write_text("a")
    return tmp_path


def listed(place: Path, known: pl.LazyFrame, first: date = DAYS[0]) -> set[str]:
    return set(list_recent(Folder(place), FOLDERS, known, first).objects["name"])


def test_list_recent__lists_new_days_the_newest_known_ones_and_those_that_failed(place: Path) -> None:
    known = [day for day in DAYS if day != DAYS[5]]
    wanted = [DAYS[5], DAYS[9], *DAYS[-7:]]
    assert listed(place, ledger(known, failed=[DAYS[9]])) == {f"{day}/a.csv" for day in wanted}


def test_list_recent__leaves_out_days_long_before_the_first_one(place: Path) -> None:
    assert listed(place, ledger(DAYS[40:]), first=DAYS[40]) == {f"{day}/a.csv" for day in (*DAYS[33:40], *DAYS[-7:])}


def test_list_recent__lists_everything_where_most_is_new(place: Path) -> None:
    for day in DAYS:
        (place / str(day + timedelta(days=60))).mkdir()
    names = listed(place, ledger(DAYS[:1]))
    assert "reports/a.csv" in names
    assert len(names) == 61


def test_stamp__changes_with_each_new_object(place: Path) -> None:
    store = Folder(place)
    before = store.stamp("")
    assert before == store.stamp("")
    (place / str(DAYS[3]) / "b.csv").write_text("b")
    after = store.stamp("")
    assert after != before
    (place / "2024-06-01").mkdir()
    assert store.stamp("") != after
    assert Folder(place / "none").stamp("") is None


def test_list_recent__lists_everything_of_a_small_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "FEW", len(DAYS))
    names = listed(place, ledger(DAYS))
    assert names == {f"{day}/a.csv" for day in DAYS} | {"reports/a.csv"}
