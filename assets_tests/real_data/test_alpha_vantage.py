"""Alpha Vantage's one-minute bars of twenty symbols, 2020-10-26 to 2021-01-08, as its API would give them: asked for
over HTTP by the command line, and held against a second computation.

Bars and daily bars are made a second time here, from the files, with the standard library alone.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from assets_tests.vendor_lake import (
    HALF_DAYS,
    KEY,
    NEW_YORK,
    SOURCE,
    VendorLake,
    files_with,
    hours,
    object_name,
    vendor_lake,
)
from lakehouse.simulators.served_files import ServedFiles
from lakehouse.simulators.vendor_api import VendorApi

FIRST, LAST = date(2020, 10, 26), date(2021, 1, 8)
MONTHS = ("2020-10", "2020-11", "2020-12", "2021-01")
DOWNLOADED = datetime(2021, 1, 9, 3, tzinfo=UTC)  # 22:00 on the evening of 2021-01-08 in New York
WITHOUT_OFFICIAL = ("BABA", "BIG", "BRK-B", "HCAC", "LAZR", "NIO", "PDD", "QQQ", "USD")
MINUTE = timedelta(minutes=1)
NUMBERS = ("open", "high", "low", "close", "volume")


class Backfilled(NamedTuple):
    """The lake after `lakehouse backfill`, what the command printed, and its exit code."""

    lake: VendorLake
    code: int
    output: str


@pytest.fixture(scope="module")
def backfilled(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backfilled]:
    content = ServedFiles(shared_data / "alphavantage", until=LAST)
    api = VendorApi(content, api_key=KEY, clock=DOWNLOADED)
    with vendor_lake(tmp_path_factory.mktemp("vendor"), api, content.symbols, adjusted=True) as lake:
        yield Backfilled(lake, *lake.cli.run("backfill", SOURCE, "--from", str(FIRST), "--to", str(LAST)))


@pytest.fixture
def lake(backfilled: Backfilled, monkeypatch: pytest.MonkeyPatch) -> VendorLake:
    """Each test has the settings of that lake, not of one of its own."""
    backfilled.lake.use(monkeypatch)
    return backfilled.lake


# The second opinion


class Bar(NamedTuple):
    """A bar as its file says it."""

    symbol: str
    start_at: datetime
    end_at: datetime
    session: date
    segment: str
    values: tuple[float, ...]


def _bar(symbol: str, row: dict[str, str]) -> Bar:
    ends = datetime.strptime(row["timestamp"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=NEW_YORK).astimezone(UTC)
    starts = ends - MINUTE
    session = starts.astimezone(NEW_YORK).date()
    opening, closing = hours(session)
    segment = "pre" if starts < opening else "regular" if starts < closing else "post"
    return Bar(symbol, starts, ends, session, segment, tuple(float(row[name]) for name in NUMBERS))


def bars_of_files(folder: Path) -> list[Bar]:
    """The bars of all files from 2020-10 on; each line but the error at the end of one."""
    found = []
    for path in sorted((folder / "intraday_1min").glob("*.csv.gz")):
        symbol = path.name.removeprefix("intraday_1min_").removesuffix(".csv.gz")
        with gzip.open(path, "rt", newline="") as lines:
            rows = [row for row in csv.DictReader(lines) if row["timestamp"] >= "2020-10"]
        found += [_bar(symbol, row) for row in rows if row["timestamp"][:1] == "2"]
    return found


@pytest.fixture(scope="module")
def expected(shared_data: Path) -> list[Bar]:
    return bars_of_files(shared_data / "alphavantage")


def is_regular(bar: Bar) -> bool:
    """By the labels: 09:31 to 16:00 in New York, to 13:00 on a half-day."""
    label = bar.end_at.astimezone(NEW_YORK).time()
    return time(9, 31) <= label <= (time(13) if bar.session in HALF_DAYS else time(16))


def daily_of(bars: list[Bar]) -> dict[tuple[str, date], dict[str, Any]]:
    grouped = defaultdict(list)
    for bar in bars:
        if is_regular(bar) and bar.values[4] > 0:
            grouped[bar.symbol, bar.session].append(bar)
    found, earlier = {}, {}
    for (symbol, session), traded in sorted(grouped.items()):
        traded.sort(key=lambda bar: bar.start_at)
        opens, highs, lows, closes, volumes = zip(*(bar.values for bar in traded), strict=True)
        previous = earlier.get(symbol)
        found[symbol, session] = {
            "open": opens[0],
            "high": max(highs),
            "low": min(lows),
            "close": closes[-1],
            "volume": int(sum(volumes)),
            "bar_count": len(traded),
            "first_bar_at": traded[0].start_at,
            "last_bar_at": traded[-1].start_at,
            "prev_session": previous[0] if previous else None,
            "prev_close": previous[1] if previous else None,
            "turnover": pytest.approx(math.fsum(bar.values[3] * bar.values[4] for bar in traded), rel=1e-12),
            "change_pct": pytest.approx((closes[-1] / previous[1] - 1) * 100, abs=1e-9) if previous else None,
        }
        earlier[symbol] = (session, closes[-1])
    return found


# What the lake holds


def test_bars_are_the_files(lake: VendorLake, expected: list[Bar]) -> None:
    stored = {(row["symbol"], row["start_at"]): row for row in lake.rows(f"{SOURCE}.bars").iter_rows(named=True)}
    assert len(expected) == len(stored) > 500_000
    for bar in expected:
        row = stored[bar.symbol, bar.start_at]
        assert (row["end_at"], row["session"], row["segment"]) == (bar.end_at, bar.session, bar.segment), bar
        assert tuple(row[name] for name in NUMBERS) == bar.values, bar
        assert row["is_traded"] == (bar.values[4] > 0)
        assert (row["instrument_id"], row["currency"], row["interval"]) == (bar.symbol, "USD", "1min")
    assert Counter(bar.segment for bar in expected) == Counter(row["segment"] for row in stored.values())
    assert min(Counter(bar.segment for bar in expected).values()) > 50_000


def test_daily_bars_are_those_of_the_regular_session(lake: VendorLake, expected: list[Bar]) -> None:
    wanted = daily_of(expected)
    stored = {(row["symbol"], row["session"]): row for row in lake.rows(f"{SOURCE}.daily_bars").iter_rows(named=True)}
    assert stored.keys() == wanted.keys()
    for key, daily in wanted.items():
        assert {name: stored[key][name] for name in daily} == daily, key
        assert stored[key]["is_complete"]
        assert stored[key]["vwap"] is None
    # Twenty symbols from 2020-10-26 on; the answer about October brings PDD's earlier bars, too.
    assert len({session for _, session in wanted}) == 69
    assert {symbol for symbol, session in wanted if session < FIRST} == {"PDD"}


def test_half_days_end_at_one(lake: VendorLake) -> None:
    """The hours of trading after 13:00 are in the bars, but not in the daily bar."""
    daily = lake.rows(f"{SOURCE}.daily_bars")
    for day in sorted(HALF_DAYS):
        last = daily.filter(session=day, symbol="AAPL")["last_bar_at"].item()
        assert last == datetime.combine(day, time(17, 59), UTC)
        assert daily.filter(session=day)["bar_count"].max() == 210
    assert daily.filter(~daily["session"].is_in(list(HALF_DAYS)))["bar_count"].max() == 390
    late = "symbol = 'AAPL' AND session = '2020-11-27' AND start_at >= '2020-11-27 18:00:00+00'"
    segments = lake.lake.sql(f"SELECT DISTINCT segment FROM {SOURCE}.bars WHERE {late}")
    assert segments is not None
    assert segments.fetchall() == [("post",)]


def test_the_clocks_go_back(lake: VendorLake) -> None:
    """The regular session begins at 13:30 UTC up to 2020-10-30, and at 14:30 from 2020-11-02 on."""
    daily = lake.rows(f"{SOURCE}.daily_bars").filter(symbol="AAPL")
    first = {row["session"]: row["first_bar_at"] for row in daily.iter_rows(named=True)}
    assert first[date(2020, 10, 30)] == datetime(2020, 10, 30, 13, 30, tzinfo=UTC)
    assert first[date(2020, 11, 2)] == datetime(2020, 11, 2, 14, 30, tzinfo=UTC)
    assert [moment.time() for moment in first.values()] == [time(13, 30)] * 5 + [time(14, 30)] * 47


def test_a_damaged_file_gives_its_good_bars(lake: VendorLake, expected: list[Bar]) -> None:
    """HCAC: a header that begins with a brace, volumes with a decimal point, the vendor's error as the last line."""
    assert sum(bar.symbol == "HCAC" for bar in expected) == lake.rows(f"{SOURCE}.bars").filter(symbol="HCAC").height
    quarantine = lake.rows("lake.quarantine").to_dicts()
    assert [(row["object"], row["row_number"]) for row in quarantine] == [
        (
            object_name("HCAC", "2020-11", adjusted=True),
            sum(bar.symbol == "HCAC" and bar.session.month == 11 for bar in expected) + 1,
        )
    ]
    (row,) = quarantine
    assert "timestamp is no time of the form %Y-%m-%d %H:%M:%S (from 1800 to 2199)" in row["reasons"]
    assert "close is missing or not a double" in row["reasons"]
    assert row["row"].startswith('"    ""Error Message"": ""Invalid API call.')


def test_what_was_asked_for_stays_with_the_rows(lake: VendorLake) -> None:
    """Prices that were adjusted as of the evening of 2021-01-08 in New York, when it was 2021-01-09 in Greenwich."""
    bars, daily = lake.rows(f"{SOURCE}.bars"), lake.rows(f"{SOURCE}.daily_bars")
    assert bars["is_adjusted"].unique().to_list() == [True]
    assert daily["adjusted_as_of"].unique().to_list() == [LAST]
    assert bars["published_at"].unique().to_list() == [DOWNLOADED]
    opening = daily.filter(symbol="AAPL", session=date(2020, 10, 26))
    # Traded at 114.01; the dividend of 2020-11-06 came off.
    assert opening["open"].item() < 114.01
    assert set(bars["object"]) == {
        object_name(symbol, month, adjusted=True)
        for symbol, month in set(zip(bars["symbol"], bars["session"].dt.strftime("%Y-%m"), strict=True))
    }


def test_nothing_is_lost(lake: VendorLake, expected: list[Bar], shared_data: Path) -> None:
    counted = lake.lake.sql(
        "SELECT product, sum(received), sum(kept), sum(duplicates), sum(superseded), sum(quarantined) "
        "FROM lake.conservation GROUP BY ALL ORDER BY ALL"
    )
    assert counted is not None
    official = 0
    for symbol in {bar.symbol for bar in expected} - set(WITHOUT_OFFICIAL):
        (path,) = (shared_data / "alphavantage" / "daily_adjusted").glob(f"DA-{symbol}-T-*.csv.gz")
        with gzip.open(path, "rt") as lines:
            official += sum(line[0] in "12" and line[:10] <= str(LAST) for line in lines)
    bars = len(expected)
    assert counted.fetchall() == [
        ("bars", bars + 1, bars, 0, 0, 1),
        ("official_daily", official, official, 0, 0, 0),
    ]
    ledger = lake.rows("lake.ingest_ledger")
    assert ledger.filter(product="bars").height == len(MONTHS) * 20
    assert ledger["rows_received"].sum() == bars + 1 + official
    traded = {(bar.symbol, str(bar.session)[:7]) for bar in expected}
    asked = {(symbol, month) for symbol in {bar.symbol for bar in expected} for month in MONTHS}
    empty = {object_name(symbol, month, adjusted=True) for symbol, month in asked - traded}
    assert set(ledger.filter(status="empty")["object"]) == empty
    assert object_name("HCAC", "2021-01", adjusted=True) in empty


def test_a_symbol_without_a_series_fails_alone(backfilled: Backfilled, lake: VendorLake) -> None:
    """The run goes on without it, and ends with the failed check."""
    failed = lake.failed()
    assert sorted(failed) == [object_name(symbol) for symbol in WITHOUT_OFFICIAL]
    for name, error in failed.items():
        assert f"refuses TIME_SERIES_DAILY_ADJUSTED symbol={name.removeprefix('official_daily/')}" in error
        assert "Invalid API call" in error
        assert "Check the symbol" in error
    assert Counter(
        request.symbol for request in lake.api.requests if request.answer == "invalid_call"
    ) == dict.fromkeys(WITHOUT_OFFICIAL, 1)
    assert backfilled.code == 1
    assert "9 objects could not be read" in backfilled.output


def test_the_key_is_nowhere(backfilled: Backfilled, lake: VendorLake) -> None:
    assert KEY not in backfilled.output
    assert sum(path.is_file() for path in lake.home.rglob("*")) > 300
    assert files_with(lake.home, KEY.encode()) == []


def test_a_second_run_changes_nothing(backfilled: Backfilled, lake: VendorLake) -> None:
    versions, before = lake.versions(), len(lake.api.requests)
    landed = sorted(path for path in (lake.home / "lake" / "landing").rglob("*") if path.is_file())
    code, output = lake.cli.run("backfill", SOURCE, "--from", str(FIRST), "--to", str(LAST))
    assert code == backfilled.code, output
    assert len(lake.api.requests) - before == before == 20 * (len(MONTHS) + 1)
    assert lake.versions() == versions
    assert sorted(path for path in (lake.home / "lake" / "landing").rglob("*") if path.is_file()) == landed
    assert files_with(lake.home, KEY.encode()) == []
