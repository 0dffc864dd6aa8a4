"""One bar of a year of many instruments is corrected: which rows, partitions and files are written, counted.

Belongs here: how much is written, at a size at which too much would be seen. What a correction means for every moment
is in `test_vendor_corrections`, which parts of an answer are stored in `test_parts`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest

from assets_tests.support.soak import soak_count
from assets_tests.support.vendor_lake import KEY, NEW_YORK, SOURCE, TABLES, VendorLake, object_name, vendor_lake
from lakehouse.catalog import source_named
from lakehouse.simulators.vendor_answers import DAILY_HEADER, INTRADAY, INTRADAY_HEADER
from lakehouse.simulators.vendor_api import VendorApi

SYMBOLS = [f"S{number:03}" for number in range(soak_count(30, 500))]
SYMBOL = SYMBOLS[21]
# When bars end, in New York: within the regular hours of half-days too.
STARTS = ("09:30:00", "10:59:00", "12:59:00")
LAST = len(STARTS) - 1
CORRECTION = 0.3
RAW, BARS, DAILY_BARS, LEDGER = f"{SOURCE}.raw_bars", f"{SOURCE}.bars", f"{SOURCE}.daily_bars", "lake.ingest_ledger"
KEYS = {BARS: ["symbol", "end_at"], DAILY_BARS: ["symbol", "session"]}
PROVENANCE = {"object", "object_version", "row_number", "published_at", "ingested_at"}
Differences = dict[tuple[Any, ...], set[str]]


@dataclass
class YearOfBars:
    """What the vendor has to tell: three bars a session of each symbol in 2023."""

    corrected: dict[tuple[str, date, int], float] = field(default_factory=dict)
    """(symbol, session, place of the bar) -> its close."""
    line_end: str = "\r\n"

    @cached_property
    def sessions(self) -> list[date]:
        calendar = source_named(SOURCE).calendar
        return list(calendar.between(date(2023, 1, 1), date(2023, 12, 31)))

    def price(self, symbol: str, session: date) -> float:
        return 10.0 + int(symbol[1:]) + session.timetuple().tm_yday / 4

    def close(self, symbol: str, session: date, bar: int = LAST) -> float:
        first_said = self.price(symbol, session) + bar / 64
        return self.corrected.get((symbol, session, bar), first_said)

    def turnover(self, symbol: str, session: date) -> float:
        return sum(self.close(symbol, session, bar) * (100 + bar) for bar in range(len(STARTS)))

    def intraday(self, symbol: str, month: str, adjusted: bool, extended: bool, now: datetime) -> list[str]:
        lines = [INTRADAY_HEADER]
        for session in reversed(self.sessions):
            if f"{session:%Y-%m}" == month:
                price = self.price(symbol, session)
                lines += [
                    f"{session} {STARTS[bar]},{price},{price + 1},{price - 1},"
                    f"{self.close(symbol, session, bar)},{100 + bar}"
                    for bar in reversed(range(len(STARTS)))
                ]
        return lines

    def daily(self, symbol: str, now: datetime) -> list[str]:
        """The official series, which knows nothing of a wrong bar."""
        prices = [(session, self.price(symbol, session)) for session in reversed(self.sessions)]
        return [DAILY_HEADER, *(f"{day},{price},{price},{price},{price},{price},303,0.0,1.0" for day, price in prices)]


Filled = tuple[VendorLake, YearOfBars]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """The year loaded and derived, once for all tests: each looks at what its own correction adds."""
    year = YearOfBars()
    with vendor_lake(tmp_path_factory.mktemp("counted"), VendorApi(year, api_key=KEY), SYMBOLS) as lake:
        loaded = lake.update(year.sessions)
        assert (len(year.sessions), loaded["bars"].rows_received) == (250, 250 * len(SYMBOLS) * len(STARTS))
        yield lake, year


@pytest.fixture
def filled(kept: Filled, own_environment: None, monkeypatch: pytest.MonkeyPatch) -> Filled:
    kept[0].use(monkeypatch)
    return kept


class State(NamedTuple):
    """A lake at a moment: its files by their paths (with when each was written, and what it holds), the files that
    count and the version of each table, and rows.
    """

    files: dict[str, tuple[int, str]]
    tables: dict[str, set[str]]
    versions: dict[str, int | None]
    rows: dict[str, pl.DataFrame]


def state(lake: VendorLake) -> State:
    root, tables = Path(lake.lake.uri), {}
    for name in TABLES:
        table = lake.lake.table(name)
        tables[name] = {str(Path(uri).relative_to(table.uri)) for uri in table.snapshot().files()}
    files = {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in root.rglob("*")
        if path.is_file()
    }
    rows = {name: lake.lake.table(name).to_polars() for name in (RAW, BARS, DAILY_BARS, LEDGER)}
    return State(files, tables, lake.versions(), rows)


class Commit(NamedTuple):
    """What a version of a table did by its log: how it wrote, and the files that it added and removed."""

    log: str
    mode: str
    added: set[str]
    removed: set[str]


def commit(lake: VendorLake, name: str, version: int) -> Commit:
    log = f"_delta_log/{version:020}.json"
    text = (Path(lake.lake.table(name).uri) / log).read_text()
    actions = [json.loads(line) for line in text.splitlines()]
    (said,) = [action["commitInfo"] for action in actions if "commitInfo" in action]
    added, removed = ({action[kind]["path"] for action in actions if kind in action} for kind in ("add", "remove"))
    return Commit(log, said["operationParameters"]["mode"], added, removed)


def difference(old: pl.DataFrame, new: pl.DataFrame, key: list[str]) -> Differences:
    """Key -> the columns in which two tables differ there; all of them for a row that only one has."""
    sides = []
    for frame, other in ((old, new), (new, old)):
        only = frame.join(other, on=frame.columns, how="anti", nulls_equal=True)
        sides.append({tuple(row[name] for name in key): row for row in only.iter_rows(named=True)})
        assert len(sides[-1]) == only.height
    before, after = sides
    differing: Differences = {}
    for place in before.keys() | after.keys():
        was, now = before.get(place, {}), after.get(place, {})
        differing[place] = {name for name in old.columns if was.get(name) != now.get(name)}
    return differing


def assert_written(lake: VendorLake, old: State, new: State, partitions: dict[str, set[str]]) -> None:
    """Four tables have rows of one more commit. Two of them got rows, and two had these partitions rewritten; beside
    them only an answer was written, and no file was touched that was there.
    """
    written = {name for name in TABLES if old.versions[name] != new.versions[name]}
    assert written == partitions.keys() == {RAW, BARS, DAILY_BARS, LEDGER}
    paths = set()
    for name in written:
        first, last = old.versions[name] or 0, new.versions[name] or 0
        commits = [commit(lake, name, version) for version in range(first + 1, last + 1)]
        # Partitions that follow from the same answer and were left as they are may be noted in a commit of their own.
        (found,) = [each for each in commits if each.added or each.removed]
        assert {path.partition("/")[0] for path in found.added} == partitions[name]
        if name in KEYS:
            assert found.removed == {path for path in old.tables[name] if path.partition("/")[0] in partitions[name]}
        else:
            assert (found.mode, found.removed) == ("Append", set())
        assert new.tables[name] == old.tables[name] - found.removed | found.added
        folder = Path(lake.lake.table(name).uri).relative_to(lake.lake.uri)
        paths |= {str(folder / path) for path in (*(each.log for each in commits), *found.added)}
    assert {path: new.files.get(path) for path in old.files} == old.files
    ((answer, answer_version),) = new_versions(old, new).select("object", "object_version").rows()
    # What the ledger adds to a version says by which description the answer was read.
    paths.add(f"landing/{SOURCE}/{answer}/{answer_version.partition('+')[0]}.csv.gz")
    assert new.files.keys() - old.files.keys() == paths


def new_versions(old: State, new: State) -> pl.DataFrame:
    """The rows that the ledger got."""
    return new.rows[LEDGER].join(old.rows[LEDGER], on=["object", "object_version"], how="anti")


@pytest.mark.soak
@pytest.mark.parametrize(
    ("session", "bar", "follower"),
    [
        pytest.param(date(2023, 6, 14), LAST, date(2023, 6, 15), id="the last bar of a session"),
        pytest.param(date(2023, 8, 31), LAST, date(2023, 9, 1), id="the last bar of a month"),
        pytest.param(date(2023, 3, 15), 1, None, id="a bar before the last one"),
    ],
)
def test_a_corrected_bar_writes_its_sessions_rows_and_the_next_change(
    filled: Filled, session: date, bar: int, follower: date | None
) -> None:
    lake, year = filled
    old, asked = state(lake), len(lake.api.requests)
    year.corrected[SYMBOL, session, bar] = year.close(SYMBOL, session, bar) + CORRECTION
    loaded = lake.update([session])
    new = state(lake)

    # The month of every symbol was asked for, and one answer of them all says something new.
    requests = lake.asked(asked)
    month = f"{session:%Y-%m}"
    assert len(requests) == 2 * len(SYMBOLS)
    assert {request.month for request in requests if request.function == INTRADAY} == {month}
    assert (loaded["bars"].objects, loaded["bars"].parts) == ({"loaded": 1, "empty": 0, "failed": 0}, {session})
    assert sum(loaded["official_daily"].objects.values()) == 0
    days = [day for day in (session, follower) if day is not None]
    partitions = {
        RAW: {f"session={session}"},
        BARS: {f"session={session}"},
        DAILY_BARS: {f"year={day.replace(month=1, day=1)}" for day in days},
        LEDGER: {f"source={SOURCE}"},
    }
    assert_written(lake, old, new, partitions)

    # The raw append holds that session of that instrument; the ledger says that the rest of the month is stored.
    (version,) = new_versions(old, new).to_dicts()
    assert version["object"] == object_name(SYMBOL, month)
    stored_anew = {part["part"] for part in version["parts"] if part["object_version"] == version["object_version"]}
    assert stored_anew == {session}
    assert {part["part"] for part in version["parts"]} == {day for day in year.sessions if f"{day:%Y-%m}" == month}
    fresh = new.rows[RAW].join(old.rows[RAW], on=["object", "object_version", "row_number"], how="anti")
    assert fresh.height == new.rows[RAW].height - old.rows[RAW].height == len(STARTS)
    assert fresh.select("symbol", "session").unique().rows() == [(SYMBOL, session)]
    closes = [year.close(SYMBOL, session, place) for place in range(len(STARTS))]
    assert fresh.sort("end_at")["close"].to_list() == closes

    # Of the bars one differs; its instrument's others of the session only say where they come from.
    ends = [datetime.combine(session, time.fromisoformat(start), NEW_YORK) + timedelta(minutes=1) for start in STARTS]
    bars = difference(old.rows[BARS], new.rows[BARS], KEYS[BARS])
    assert {place: names - PROVENANCE for place, names in bars.items()} == {
        (SYMBOL, end): {"close"} if place == bar else set() for place, end in enumerate(ends)
    }
    # Of the daily bars the session's, and, where its close is another, the next one's change.
    daily = difference(old.rows[DAILY_BARS], new.rows[DAILY_BARS], KEYS[DAILY_BARS])
    wanted: Differences = {(SYMBOL, session): {"turnover"}}
    if follower is not None:
        wanted[SYMBOL, session] |= {"close", "change_pct"}
        wanted[SYMBOL, follower] = {"prev_close", "change_pct"}
    assert daily == wanted
    rows = {row["session"]: row for row in new.rows[DAILY_BARS].filter(symbol=SYMBOL).iter_rows(named=True)}
    for day in days:
        close, before = year.close(SYMBOL, day), year.close(SYMBOL, year.sessions[year.sessions.index(day) - 1])
        assert (rows[day]["close"], rows[day]["prev_close"]) == (close, before)
        assert rows[day]["turnover"] == pytest.approx(year.turnover(SYMBOL, day), rel=1e-12)
        assert rows[day]["change_pct"] == pytest.approx(100 * (close - before) / before, rel=1e-9)
