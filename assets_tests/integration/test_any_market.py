"""Bars of any market: in which session and segment they are, and what its daily bar is, against a reference in plain
Python that asks exchange_calendars itself and knows no lake.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import exchange_calendars
import pytest

from assets_tests.support.described import resolved
from assets_tests.support.soak import soak_count
from lakehouse.api import Lake
from lakehouse.derive.conservation import conservation_of
from lakehouse.derive.rebuild import rebuild
from lakehouse.domains.market.bars.as_of import daily_bars as daily_bars_as_of
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.ingest.discover import discover
from lakehouse.ingest.load import LoadResult, load
from lakehouse.settings import settings

SOURCE = "binance"
"""Lends its name and its setting; everything else is another market's."""
LENGTHS = {
    "1s": timedelta(seconds=1),
    "1min": timedelta(minutes=1),
    "5min": timedelta(minutes=5),
    "15min": timedelta(minutes=15),
    "30min": timedelta(minutes=30),
    "1h": timedelta(hours=1),
    "4h": timedelta(hours=4),
    "1d": timedelta(days=1),
}
FORMATS = {
    "local": "%Y-%m-%d %H:%M:%S",
    "offset": "%Y-%m-%d %H:%M:%S%z",
    "zulu": "%Y-%m-%dT%H:%M:%SZ",
    "epoch": "epoch",
}


@dataclass(frozen=True)
class Market:
    """A market and the way in which a vendor tells its bars. `names` is the clock of the objects' names."""

    code: str
    zone: str
    interval: str = "1min"
    label: str = "start"
    written: str = "local"
    names: str = ""
    first: date = date(2024, 10, 25)
    last: date = date(2024, 11, 4)
    minutes_after_close: int = 0
    calendar: dict[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        more = "".join(f" {key}={value}" for key, value in self.calendar.items())
        return f"{self.code}{more} {self.zone} {self.interval} {self.label} {self.written} {self.names}".strip()

    @property
    def length(self) -> timedelta:
        return LENGTHS[self.interval]

    @property
    def time_zone(self) -> str:
        return self.zone if self.written in ("local", "offset") else "UTC"


MARKETS = [
    Market("XNYS", "America/New_York"),
    Market("XNYS", "America/New_York", "5min", "end", "zulu"),
    Market("XNYS", "America/New_York", "1h", "start", "offset", "UTC"),
    Market("XNYS", "America/New_York", "4h", "start", "epoch"),
    Market("XNYS", "America/New_York", "1d"),
    Market("XNYS", "America/New_York", "1d", "start", "zulu"),
    Market("XNYS", "America/New_York", "1d", "end"),
    Market("XNYS", "America/New_York", first=date(2024, 11, 27), last=date(2024, 12, 2)),
    Market("XETR", "Europe/Berlin", "1min", "start", "offset", minutes_after_close=10),
    Market("XETR", "Europe/Berlin", "1s", "end", "zulu"),
    Market("XASX", "Australia/Sydney", "1min", "start", "zulu", first=date(2024, 10, 3), last=date(2024, 10, 10)),
    Market("XASX", "Australia/Sydney", "1h", "end", first=date(2024, 10, 3), last=date(2024, 10, 10)),
    Market("XASX", "Australia/Sydney", "1d", "start", "zulu", first=date(2024, 10, 3), last=date(2024, 10, 10)),
    Market("XTKS", "Asia/Tokyo", "15min", "start", "epoch"),
    Market("XTKS", "Asia/Tokyo", "1d", "start", "zulu"),
    Market("CMES", "America/Chicago", "1min", "start", "local", "partition"),
    Market("CMES", "America/Chicago", "30min", "end", "zulu", "UTC"),
    Market("CMES", "America/Chicago", "1d"),
    Market("24/7", "UTC", "5min", "start", "epoch"),
    Market("24/7", "Asia/Seoul", "5min", calendar={"day_starts": "09:00"}),
    Market("24/7", "Europe/Berlin", "1h", "start", "offset"),
    Market("24/7", "Europe/Berlin", "1d"),
    Market("24/7", "America/New_York", "4h", "end", "zulu"),
    Market("24/5", "America/New_York", "1min", "start", "zulu", calendar={"day_starts": "17:00"}),
    Market("24/5", "Europe/London", "15min"),
    Market(
        "XBOM",
        "Asia/Kolkata",
        first=date(2024, 1, 18),
        last=date(2024, 1, 25),
        calendar={"also": ["2024-01-20", {"session": "2024-01-22", "opens": "18:00", "closes": "19:00"}]},
    ),
    Market(
        "XBOM",
        "Asia/Kolkata",
        "1d",
        first=date(2024, 1, 18),
        last=date(2024, 1, 25),
        calendar={"closed": ["2024-01-19"]},
    ),
]


# The reference


@cache
def hours_of_exchange(code: str, first: date, last: date) -> tuple[tuple[date, datetime, datetime], ...]:
    found = exchange_calendars.get_calendar(code, start=str(first), end=str(last))
    return tuple(
        (session.date(), found.session_open(session).to_pydatetime(), found.session_close(session).to_pydatetime())
        for session in found.sessions
    )


def local(day: date, clock: str, zone: str) -> datetime:
    return datetime.combine(day, time.fromisoformat(clock), ZoneInfo(zone)).astimezone(UTC)


def hours(market: Market) -> list[tuple[date, datetime, datetime]]:
    """(session, opening, close), ascending."""
    margin = timedelta(days=5)
    first, last = market.first - margin, market.last + margin
    if market.code not in ("24/7", "24/5"):
        found = list(hours_of_exchange(market.code, first, last))
        if market.code == "XBOM":
            closed, also = market.calendar.get("closed", []), market.calendar.get("also", [])
            found = [each for each in found if str(each[0]) not in closed]
            if also:
                saturday, evening = date(2024, 1, 20), date(2024, 1, 22)
                found = [each for each in found if each[0] not in (saturday, evening)]
                found.append((saturday, local(saturday, "09:15", market.zone), local(saturday, "15:30", market.zone)))
                found.append((evening, local(evening, "18:00", market.zone), local(evening, "19:00", market.zone)))
        return sorted(found)
    starts = market.calendar.get("day_starts", "00:00")
    before = timedelta(days=1) if starts >= "12:00" else timedelta(0)
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return [
        (day, local(day - before, starts, market.zone), local(day - before + timedelta(days=1), starts, market.zone))
        for day in days
        if market.code == "24/7" or day.weekday() < 5
    ]


def placed(market: Market, start: datetime) -> tuple[date, str] | None:
    """The session and the segment of a bar."""
    end, after = start + market.length, timedelta(minutes=market.minutes_after_close)
    known = hours(market)
    day = start.astimezone(ZoneInfo(market.zone)).date()
    if market.interval == "1d":
        of = [each for each in known if start < each[2] <= end] or [
            each for each in known if each[1] <= start < each[2]
        ]
    else:
        of = [each for each in reversed(known) if each[1] <= start < each[2] + after]
        of = of or [each for each in known if start < each[1] < end] or [each for each in known if each[0] == day]
    if not of:
        return None
    session, opens, closes = of[0]
    return session, "pre" if end <= opens else "regular" if start < closes + after else "post"


@dataclass(frozen=True)
class Bar:
    symbol: str
    start: datetime
    prices: tuple[float, float, float, float]
    volume: int


def some_bars(market: Market, seed: int) -> list[Bar]:
    """Bars of three instruments in and around the sessions, on the vendor's grid; times that come twice are left out
    where the text has no offset.
    """
    random, zone, found = Random(seed), ZoneInfo(market.zone), []
    step = market.length
    sessions = [each for each in hours(market) if market.first <= each[0] <= market.last]
    for symbol in ("AAA", "BBB", "CCC"):
        starts: set[datetime] = set()
        for session, opens, closes in sessions:
            if step == timedelta(days=1):
                clock = UTC if market.written == "zulu" else zone
                midnight = datetime.combine(session, time(), clock)
                if market.label == "end":
                    midnight += timedelta(days=1)
                    starts.add(midnight.astimezone(UTC) - step)
                else:
                    starts.add(midnight.astimezone(UTC))
                continue
            for _ in range(12):
                around = (closes - opens) + timedelta(hours=6)
                moment = opens - timedelta(hours=2) + around * random.random()
                seconds = int(moment.timestamp() // step.total_seconds() * step.total_seconds())
                starts.add(datetime.fromtimestamp(seconds, UTC))
            starts |= {opens, closes - step} if step <= timedelta(minutes=1) else set()
        for start in sorted(starts):
            label = start + (step if market.label == "end" else timedelta(0))
            if market.written == "local" and is_odd(label, zone):
                continue
            low = random.randint(100, 200)
            high = low + random.randint(0, 20)
            opened, closed = (random.randint(low, high) for _ in range(2))
            found.append(Bar(symbol, start, (opened, high, low, closed), random.randint(0, 3) * 100))
    return found


def is_odd(moment: datetime, zone: ZoneInfo) -> bool:
    wall = moment.astimezone(zone).replace(tzinfo=None)
    return wall.replace(tzinfo=zone, fold=0).utcoffset() != wall.replace(tzinfo=zone, fold=1).utcoffset()


Daily = dict[tuple[str, date], tuple[float, float, float, float, int, int]]


def daily_of(market: Market, bars: list[Bar]) -> Daily:
    inside: dict[tuple[str, date], list[Bar]] = defaultdict(list)
    for bar in bars:
        place = placed(market, bar.start)
        if bar.volume > 0 and place is not None and place[1] == "regular":
            inside[bar.symbol, place[0]].append(bar)
    return {
        key: (
            min(found, key=lambda bar: bar.start).prices[0],
            max(bar.prices[1] for bar in found),
            min(bar.prices[2] for bar in found),
            max(found, key=lambda bar: bar.start).prices[3],
            sum(bar.volume for bar in found),
            len(found),
        )
        for key, found in inside.items()
    }


# The vendor and the lake


def described(market: Market) -> BarSource:
    objects = {"pattern": r"(?P<symbol>[^/]+)_(?P<date>\d{4}-\d{2}-\d{2})\.csv", "holds": "day"}
    if market.names:
        objects["clock"] = market.names
    prices = {name: name for name in ("open", "high", "low", "close", "volume")}
    return resolved(
        SourceConfig.model_validate(
            {
                "source": SOURCE,
                "description": "Bars of an invented vendor",
                "venue": {
                    "mic": "XXXX", "name": "A market", "country": "XX", "time_zone": market.zone, "currency": "EUR",
                },
                "calendar": {"code": market.code, **market.calendar},
                "first_session": market.first - timedelta(days=3),
                "minutes_after_close": market.minutes_after_close,
                "bars": {
                    "objects": objects,
                    "format": "csv",
                    "time": {
                        "columns": ["time"],
                        "format": FORMATS[market.written],
                        "zone": market.time_zone,
                        "label": market.label,
                    },
                    "interval": market.interval,
                    "columns": prices,
                    "constants": {"currency": "EUR"},
                    "named": {"instrument_id": "symbol", "symbol": "symbol"},
                },
            }
        )
    )  # fmt: skip


def in_text(market: Market, moment: datetime) -> str:
    if market.written == "epoch":
        return str(int(moment.timestamp() * 1000))
    return moment.astimezone(ZoneInfo(market.time_zone)).strftime(FORMATS[market.written])


def files_of(market: Market, bars: list[Bar]) -> dict[str, list[str]]:
    """Name -> rows of the objects: one an instrument and day of the clock of names."""
    lines: dict[str, list[str]] = defaultdict(list)
    step = market.length if market.label == "end" else timedelta(0)
    for bar in bars:
        place = placed(market, bar.start)
        clock = ZoneInfo(market.names if market.names not in ("", "partition") else market.time_zone)
        day = bar.start.astimezone(clock).date()
        if market.names == "partition" and place is not None:
            day = place[0]
        values = ",".join(map(str, [*bar.prices, bar.volume]))
        lines[f"{bar.symbol}_{day}.csv"].append(f"{in_text(market, bar.start + step)},{values}\n")
    return lines


def publish(market: Market, folder: Path, bars: list[Bar], names: Set[str] = frozenset()) -> None:
    """Writes the objects, and those of further names without a row."""
    folder.mkdir(exist_ok=True)
    for name, rows in {**{name: [] for name in names}, **files_of(market, bars)}.items():
        text = "time,open,high,low,close,volume\n" + "".join(rows)
        if not (folder / name).exists() or (folder / name).read_text() != text:
            (folder / name).write_text(text)


def taken(lake: Lake, source: BarSource, sessions: list[date]) -> LoadResult:
    """Loads and derives as a run over these sessions does."""
    loaded = load(lake, source.bars, sessions)
    touched = source.together(lake, sessions)
    derive_bars(lake, source, touched)
    derive_daily_bars(lake, source, touched)
    return loaded


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(f"LAKEHOUSE_{SOURCE.upper()}_URL", str(tmp_path / "vendor"))
    settings.cache_clear()
    yield tmp_path / "vendor"
    settings.cache_clear()


def stored_daily(lake: Lake) -> Daily:
    columns = ("open", "high", "low", "close", "volume", "bar_count")
    rows = lake.table(f"{SOURCE}/daily_bars").to_polars().iter_rows(named=True)
    return {(row["symbol"], row["session"]): tuple(row[name] for name in columns) for row in rows}  # type: ignore[misc]


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(soak_count(1, 10)))
@pytest.mark.parametrize("market", MARKETS, ids=str)
def test_each_bar_is_in_its_session_and_each_daily_bar_is_the_reference(
    market: Market, seed: int, folder: Path
) -> None:
    bars = some_bars(market, seed)
    publish(market, folder, bars)
    lake, source = Lake.open(), described(market)
    sessions = source.calendar.between(market.first - timedelta(days=3), market.last + timedelta(days=3))
    # Two runs, as a session's bars may come in objects of two days.
    half = len(sessions) // 2
    results = [taken(lake, source, part) for part in (sessions[:half], sessions[half:])]
    assert [result.errors for result in results] == [{}, {}]

    expected = {(bar.symbol, bar.start): placed(market, bar.start) for bar in bars}
    stored = lake.table(f"{SOURCE}/bars").to_polars().iter_rows(named=True)
    found = {(row["symbol"], row["start_at"]): (row["session"], row["segment"]) for row in stored}
    assert found == {key: place for key, place in expected.items() if place is not None}
    refused = lake.table("quarantine").to_polars()
    assert refused.height == sum(place is None for place in expected.values())
    assert set(refused["reasons"].explode().to_list()) <= {f"the day is no session of {market.code}"}
    assert stored_daily(lake) == daily_of(market, bars)
    assert stored_daily(lake)
    assert not rebuild(lake, source, verify=True).differs


# Files of UTC days, of a venue that opens on the day before: half of the objects hold bars of two sessions.
SYDNEY = Market("XASX", "Australia/Sydney", "1h", "start", "zulu", first=date(2024, 10, 3), last=date(2024, 10, 9))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(soak_count(1, 40)))
def test_corrections_of_objects_with_two_sessions_leave_what_one_load_would(seed: int, folder: Path) -> None:
    """Objects change, lose and gain bars, and runs take some sessions at a time, as a sensor's do: of the objects that
    changed. At the end the lake is the reference, and a rebuild changes nothing.
    """
    random, lake, source = Random(seed), Lake.open(), described(SYDNEY)
    sessions = source.calendar.between(SYDNEY.first - timedelta(days=3), SYDNEY.last + timedelta(days=3))
    bars = some_bars(SYDNEY, seed)
    # A file that goes is no correction: one whose bars are all withdrawn stays, with its header alone.
    names = set(files_of(SYDNEY, bars))
    for _ in range(4):
        publish(SYDNEY, folder, bars, names)
        pending = discover(lake, source.bars, retry_failed=True).pending
        wanted = sorted({item.first_partition for item in pending})
        for session in random.sample(wanted, k=random.randint(0, len(wanted))):
            taken(lake, source, [session])
        some = set(random.sample(range(len(bars)), k=len(bars) // 10))
        kept = [bar for number, bar in enumerate(bars) if number not in some or random.random() < 0.5]
        bars = [replace(bar, volume=bar.volume + 100) if random.random() < 0.05 else bar for bar in kept]
    publish(SYDNEY, folder, bars, names)
    for item in discover(lake, source.bars, retry_failed=True).pending:
        taken(lake, source, [item.first_partition])
    taken(lake, source, sessions)

    assert stored_daily(lake) == daily_of(SYDNEY, bars)
    assert not rebuild(lake, source, verify=True).differs
    with lake.connect() as connection:
        law = connection.execute(f"FROM ({conservation_of(lake, connection, source, source.tables[0])})").pl()
    assert (law["received"] == law["kept"] + law["duplicates"] + law["superseded"] + law["quarantined"]).all()


@pytest.mark.parametrize(("names", "written"), [("", "local"), ("Asia/Seoul", "zulu")])
def test_objects_by_the_date_of_labels_that_are_ends_keep_the_bar_that_ends_at_midnight(
    names: str, written: str, folder: Path
) -> None:
    """Hours of a market around the clock, labelled by their ends: the last of a day is the first in the next file."""
    market = Market("24/7", "Asia/Seoul", "1h", "end", written, names, date(2024, 3, 4), date(2024, 3, 5))
    first = local(market.first, "00:00", market.zone)
    lines: dict[str, list[str]] = defaultdict(list)
    for number in range(1, 49):
        label = first + number * market.length
        name = f"AAA_{label.astimezone(ZoneInfo(market.zone)).date()}.csv"
        lines[name].append(f"{in_text(market, label)},10,11,9,10,5\n")
    folder.mkdir()
    for name, rows in lines.items():
        (folder / name).write_text("time,open,high,low,close,volume\n" + "".join(rows))
    lake, source = Lake.open(), described(market)
    taken(lake, source, source.calendar.between(market.first, market.last + timedelta(days=1)))
    assert {key: row[-1] for key, row in stored_daily(lake).items()} == {
        ("AAA", market.first): 24,
        ("AAA", market.last): 24,
    }


def test_a_session_that_is_closed_later_goes_with_its_rows(folder: Path) -> None:
    """A day for which the vendor sent test data: taken out of the calendar once the lake holds it."""
    market = Market("XBOM", "Asia/Kolkata", "1h", first=date(2024, 1, 17), last=date(2024, 1, 19))
    closed = date(2024, 1, 18)
    publish(market, folder, some_bars(market, 1))
    lake, source = Lake.open(), described(market)
    sessions = source.calendar.between(market.first, market.last)
    taken(lake, source, sessions)
    before = datetime.now(UTC)
    source = described(replace(market, calendar={"closed": [closed]}))
    load(lake, source.bars, [day for day in sessions if day != closed], reread=True)
    assert rebuild(lake, source).differs
    assert not rebuild(lake, source, verify=True).differs
    assert {session for _, session in stored_daily(lake)} == set(sessions) - {closed}
    for check in source.checks:
        check.run(lake, source, None)
    then = Lake(lake.uri, as_of=before)
    with then.connect() as connection:
        assert connection.execute(daily_bars_as_of(then, connection, source)).fetchall()
