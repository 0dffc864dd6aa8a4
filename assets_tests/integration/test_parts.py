"""A month that is sent again: only those parts of it that say something new are stored, and every row is accounted
for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from assets_tests.support.reference import HEADER, csv_line
from assets_tests.support.scripted_vendor import Reply, Vendor, running
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.derive.conservation import COUNTS
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.domains.market.corporate_actions.derive import OFFICIAL_TABLES, derive_official
from lakehouse.ingest.load import LoadResult, load
from lakehouse.settings import settings

SOURCE = "alpha_vantage"
SESSIONS = [date(2020, 11, day) for day in (2, 3, 4)]
FIRST, SECOND, THIRD = SESSIONS
BARS_HEADER = "timestamp,open,high,low,close,volume"
DAILY_HEADER = "timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient"
Said = dict[date, list[str]]


def bar(day: date, minute: int, price: float) -> str:
    return f"{day} 10:{minute:02}:00,{price},{price},{price},{price},100"


def day_of(day: date, price: float = 10.0) -> list[str]:
    """The vendor's rows of a session, newest first."""
    return [bar(day, minute, price) for minute in (3, 2, 1)]


def month() -> Said:
    return {day: day_of(day) for day in reversed(SESSIONS)}


@dataclass
class Feed:
    """The vendor, what it says, and the lake that asks it."""

    vendor: Vendor
    lake: Lake = field(default_factory=Lake.open)

    @property
    def source(self) -> BarSource:
        """What is asked, by the settings of now."""
        return source_named(SOURCE)

    def says(self, *lines: str, header: str = BARS_HEADER) -> None:
        self.vendor.otherwise = Reply("".join(f"{line}\r\n" for line in (header, *lines)).encode())

    def take(self, said: Said) -> LoadResult:
        """Loads and derives the month as the vendor says it now; each row has to be accounted for."""
        self.says(*(line for lines in said.values() for line in lines))
        loaded = load(self.lake, self.source.bars, [FIRST])
        derive_bars(self.lake, self.source, SESSIONS)
        derive_daily_bars(self.lake, self.source, SESSIONS)
        received = sum(len(lines) for lines in said.values())
        assert loaded.rows_received in (0, received)
        for row in self.lake.sql("FROM lake.conservation").pl().iter_rows(named=True):
            assert row["received"] == sum(row[name] for name in COUNTS[1:]), row
        return loaded

    def stored(self, table: str = "raw_bars") -> dict[tuple[int, date], int]:
        """(version, session) -> rows of a raw table; versions are numbered in their order."""
        rows = self.lake.table(f"{SOURCE}/{table}").to_polars()
        order = [name for name, _ in self.ledger()]
        counted = rows.group_by("object_version", "session").len().iter_rows()
        return {(order.index(name), session): count for name, session, count in counted}

    def ledger(self) -> list[tuple[str, dict[date, int]]]:
        """Each version with its parts, and the number of the version under which each of them is stored."""
        rows = self.lake.table("ingest_ledger").to_polars().sort("object_version").to_dicts()
        order = [row["object_version"] for row in rows]
        for row in rows:
            assert sum(part["rows"] for part in row["parts"]) == row["rows_received"]
        return [
            (row["object_version"], {part["part"]: order.index(part["object_version"]) for part in row["parts"]})
            for row in rows
        ]

    def pointers(self) -> list[dict[date, int]]:
        return [parts for _, parts in self.ledger()]

    def counts(self) -> tuple[int, ...]:
        sums = ", ".join(f"sum({name})::BIGINT" for name in COUNTS)
        row = self.lake.sql(f"SELECT {sums} FROM lake.conservation").fetchone()
        assert row is not None
        return row

    def closes(self, lake: Lake | None = None) -> list[tuple[date, float]]:
        return (lake or self.lake).sql(f"SELECT session, close FROM {SOURCE}.daily_bars ORDER BY session").fetchall()

    def files(self) -> dict[str, int]:
        """The files of raw_bars with when each was written."""
        folder = Path(self.lake.uri) / SOURCE / "raw_bars"
        return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Feed]:
    with running(Vendor()) as vendor:
        monkeypatch.setenv("LAKEHOUSE_ALPHA_VANTAGE_URL", vendor.url)
        monkeypatch.setenv("LAKEHOUSE_ALPHA_VANTAGE_SYMBOLS", "AAPL")
        monkeypatch.setenv("ALPHA_VANTAGE_API_KEY", "K3Y-F0R-T3STS")
        settings.cache_clear()
        yield Feed(vendor)


def test_one_changed_session_is_all_that_is_stored(feed: Feed) -> None:
    said = month()
    assert feed.take(said).parts == set(SESSIONS)
    files = feed.files()
    said[SECOND][1] = bar(SECOND, 2, 12.5)
    loaded = feed.take(said)

    assert (loaded.parts, loaded.rows_received, loaded.rows_quarantined) == ({SECOND}, 9, 0)
    assert feed.stored() == {(0, FIRST): 3, (0, SECOND): 3, (0, THIRD): 3, (1, SECOND): 3}
    assert feed.pointers()[1] == {FIRST: 0, SECOND: 1, THIRD: 0}
    added = feed.files().keys() - files.keys()
    assert {name.partition("/")[0] for name in added} == {f"session={SECOND}"}
    assert {name: feed.files()[name] for name in files} == files
    # Six rows were said again as parts, two beside the change; the third is another.
    assert feed.counts() == (18, 9, 8, 1, 0)
    highs = feed.lake.sql(f"SELECT session, high FROM {SOURCE}.daily_bars ORDER BY session").fetchall()
    assert highs == [(FIRST, 10.0), (SECOND, 12.5), (THIRD, 10.0)]


def test_the_same_month_again_changes_nothing(feed: Feed) -> None:
    feed.take(month())
    before = feed.files(), feed.ledger()
    assert sum(feed.take(month()).objects.values()) == 0
    assert (feed.files(), feed.ledger()) == before


def test_a_month_that_returns_to_what_it_said_stores_nothing(feed: Feed) -> None:
    said = month()
    moments = []
    for price in (10.0, 11.0, 10.0):
        loaded = feed.take(said | {SECOND: day_of(SECOND, price)})
        moments.append((datetime.now(UTC), feed.closes()))
    assert (loaded.objects["loaded"], loaded.parts) == (1, set())
    assert feed.pointers() == [dict.fromkeys(SESSIONS, 0), {FIRST: 0, SECOND: 1, THIRD: 0}, dict.fromkeys(SESSIONS, 0)]
    assert feed.counts() == (27, 9, 15, 3, 0)
    assert [closes[1] for _, closes in moments] == [(SECOND, 10.0), (SECOND, 11.0), (SECOND, 10.0)]
    for moment, closes in moments:
        assert feed.closes(Lake.open(as_of=moment)) == closes


def test_a_session_is_withdrawn_and_comes_back(feed: Feed) -> None:
    said = month()
    feed.take(said)
    without = {day: lines for day, lines in said.items() if day != SECOND}
    assert feed.take(without).parts == set()
    assert [session for session, _ in feed.closes()] == [FIRST, THIRD]
    assert feed.counts() == (15, 6, 6, 3, 0)
    assert feed.take(said).parts == set()
    assert [session for session, _ in feed.closes()] == SESSIONS
    assert feed.counts() == (24, 9, 15, 0, 0)


def test_a_header_alone_withdraws_the_month(feed: Feed) -> None:
    feed.take(month())
    assert feed.take({}).objects == {"loaded": 0, "empty": 1, "failed": 0}
    assert (feed.closes(), feed.counts()) == ([], (9, 0, 0, 9, 0))
    feed.take(month())
    assert feed.counts() == (18, 9, 9, 0, 0)


def test_rows_in_another_order_are_another_content(feed: Feed) -> None:
    """Of two rows of a minute the later one wins, so that the order says something."""
    said = month()
    feed.take(said)
    assert feed.take(said | {THIRD: said[THIRD][::-1]}).parts == {THIRD}
    assert feed.counts() == (18, 9, 9, 0, 0)
    # Sessions in another order say nothing else.
    assert feed.take(dict(sorted(said.items()))).parts == set()


RAGGED = '"    ""Error Message"": ""Invalid API call.""",,,,,,'
TIMELESS = "n/a,10,10,10,10,5"
OUTSIDE = "2020-10-30 10:01:00,10,10,10,10,5"


@pytest.mark.parametrize("bad", [RAGGED, TIMELESS, OUTSIDE], ids=["malformed", "without a time", "of another month"])
def test_a_row_of_no_session_belongs_to_the_first_one(feed: Feed, bad: str) -> None:
    said = month()
    feed.take(said)
    # It comes at the end; a part of its session is stored again with it, the others are not.
    with_bad = {**said, date.max: [bad]}
    loaded = feed.take(with_bad)
    assert (loaded.parts, loaded.rows_quarantined) == ({FIRST}, 1)
    assert feed.stored()[1, FIRST] == 3
    assert feed.counts() == (19, 9, 9, 0, 1)
    (refused,) = feed.lake.table("quarantine").to_polars().to_dicts()
    assert (refused["row"], refused["row_number"], refused["session"]) == (bad, 10, FIRST)
    # The bad row again, beside a change elsewhere: its part says nothing new.
    loaded = feed.take({**with_bad, THIRD: day_of(THIRD, 11.0)})
    assert (loaded.parts, loaded.rows_quarantined) == ({THIRD}, 0)
    assert feed.lake.table("quarantine").to_polars().height == 1
    assert feed.counts() == (29, 9, 16, 3, 1)
    # Another bad row is another content of its part.
    loaded = feed.take({**with_bad, date.max: [bad.replace(",5", ",6").replace("Error", "Other")]})
    assert (loaded.parts, loaded.rows_quarantined) == ({FIRST}, 1)
    assert feed.counts()[4] == 2


def test_a_bad_row_of_a_session_goes_with_its_session(feed: Feed) -> None:
    said = month()
    said[THIRD].append(f"{THIRD} 10:09:00,10,9,10,10,5")
    assert feed.take(said).rows_quarantined == 1
    loaded = feed.take(said | {FIRST: day_of(FIRST, 11.0)})
    assert (loaded.parts, loaded.rows_quarantined) == ({FIRST}, 0)
    loaded = feed.take(said | {THIRD: said[THIRD][:-1]})
    assert (loaded.parts, loaded.rows_quarantined) == ({THIRD}, 0)
    # The second answer repeats seven rows, the bad one among them, the third says nothing that is new.
    assert feed.counts() == (10 + 10 + 9, 9, 7 + 9, 3, 1)


def test_a_daily_series_is_stored_year_by_year(feed: Feed) -> None:
    product = feed.source.official_daily
    assert product is not None
    days = [date(2019, 12, 30), date(2019, 12, 31), date(2020, 1, 2)]
    lines = [f"{day},10,10,10,10,10,1000,0.0,1.0" for day in days]
    feed.says(*lines, header=DAILY_HEADER)
    assert load(feed.lake, product, []).parts == {date(2019, 1, 1), date(2020, 1, 1)}
    feed.says(*lines, "2020-01-03,11,11,11,11,11,1000,0.5,1.0", header=DAILY_HEADER)
    assert load(feed.lake, product, []).parts == {date(2020, 1, 1)}
    assert feed.pointers() == [
        {date(2019, 1, 1): 0, date(2020, 1, 1): 0},
        {date(2019, 1, 1): 0, date(2020, 1, 1): 1},
    ]
    assert feed.stored("raw_daily") == {(0, days[0]): 1, (0, days[1]): 1, (0, days[2]): 1, (1, days[2]): 1} | {
        (1, date(2020, 1, 3)): 1
    }
    for table in OFFICIAL_TABLES:
        derive_official(table, feed.lake, feed.source)
    assert feed.lake.table(f"{SOURCE}/official_daily").to_polars()["session"].sort().to_list() == [
        *days,
        date(2020, 1, 3),
    ]
    by_year = feed.lake.sql("SELECT session, received, kept, duplicates FROM lake.conservation ORDER BY 1").fetchall()
    # The second product's rows are counted by year.
    official = [row for row in by_year if row[1]]
    assert official == [(date(2019, 1, 1), 4, 2, 2), (date(2020, 1, 1), 3, 2, 1)]


def test_each_choice_of_the_request_is_an_object_of_its_own(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    feed.take(month())
    monkeypatch.setenv("LAKEHOUSE_ALPHA_VANTAGE_ADJUSTED", "true")
    settings.cache_clear()
    assert feed.take(month()).parts == set(SESSIONS)
    assert [asked["adjusted"] for asked in feed.vendor.asked] == ["false", "true"]
    ledger = feed.lake.table("ingest_ledger").to_polars()
    assert set(ledger["object"]) == {f"bars/2020-11/adjusted={choice}/AAPL" for choice in ("true", "false")}
    # What was asked for last is what counts: other prices of the same minutes.
    bars = feed.lake.table(f"{SOURCE}/bars").to_polars()
    assert bars["is_adjusted"].to_list() == [True] * 9
    assert feed.counts() == (18, 9, 0, 9, 0)


@pytest.mark.parametrize("ragged", [(), ("cut,off",)], ids=["sound", "with a ragged row"])
def test_the_header_belongs_to_an_objects_content(
    ragged: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rows below another header: what was the first price is the last one."""
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", str(tmp_path / "feed"))
    day = date(2017, 6, 29)
    row = ("DE0005190003", "BMW", "BMW", "Common stock", "EUR", "1", str(day), "08:00", "1", "2", "1", "2", "5", "1")
    swapped = [{"StartPrice": "EndPrice", "EndPrice": "StartPrice"}.get(name, name) for name in HEADER]
    path = tmp_path / f"feed/{day}/{day}_BINS_XETR08.csv"
    path.parent.mkdir(parents=True)
    lake, config = Lake.open(), source_named("xetra")
    for moment, header in enumerate((HEADER, swapped, HEADER), start=1_500_000_000):
        path.write_text("".join(f"{line}\n" for line in (",".join(header), csv_line(row), *ragged)))
        os.utime(path, (moment, moment))
        loaded = load(lake, config.bars, [day])
        assert loaded.parts == ({day} if moment < 1_500_000_002 else set())
        derive_bars(lake, config, [day])
        (bar,) = lake.table("xetra/bars").to_polars().to_dicts()
        assert (bar["open"], bar["close"]) == ((2.0, 1.0) if header is swapped else (1.0, 2.0))
    parts = lake.table("ingest_ledger").to_polars().sort("published_at")["parts"].to_list()
    assert parts[0] == parts[2] != parts[1]
