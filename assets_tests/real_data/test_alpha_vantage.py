"""Alpha Vantage's one-minute bars of twenty symbols, 2020-10-26 to 2021-01-08, as its API would give them: asked for
over HTTP, held against a second computation and against the vendor's own official series.

Bars and daily bars are made a second time here, from the files, with the standard library alone.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets_tests.support.served_files import ServedFiles
from assets_tests.support.vendor_lake import (
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
from lakehouse.simulators.vendor_api import VendorApi

FIRST, LAST = date(2020, 10, 26), date(2021, 1, 8)
MONTHS = ("2020-10", "2020-11", "2020-12", "2021-01")
DOWNLOADED = datetime(2021, 1, 9, 3, tzinfo=UTC)  # 22:00 on the evening of 2021-01-08 in New York
WITHOUT_OFFICIAL = ("BABA", "BIG", "BRK-B", "HCAC", "LAZR", "NIO", "PDD", "QQQ", "USD")
MINUTE = timedelta(minutes=1)
NUMBERS = ("open", "high", "low", "close", "volume")


class Filled(NamedTuple):
    """A lake that was filled, what it held then, and what `lakehouse backfill` said of it afterwards."""

    lake: VendorLake
    versions: dict[str, int | None]
    landed: list[Path]
    requests: int
    code: int
    output: str


def landed(lake: VendorLake) -> list[Path]:
    """The answers that are kept."""
    return sorted(path for path in (lake.home / "lake" / "landing").rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def filled(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    content = ServedFiles(shared_data / "alphavantage", until=LAST)
    api = VendorApi(content, api_key=KEY, clock=DOWNLOADED)
    with vendor_lake(tmp_path_factory.mktemp("vendor"), api, content.symbols, adjusted=True) as lake:
        lake.update(lake.described.calendar.between(FIRST, LAST))
        before = lake.versions(), landed(lake), len(api.requests)
        yield Filled(lake, *before, *lake.cli.run("backfill", SOURCE, "--from", str(FIRST), "--to", str(LAST)))


@pytest.fixture
def lake(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> VendorLake:
    """Each test has the settings of that lake, not of one of its own."""
    filled.lake.use(monkeypatch)
    return filled.lake


# The second opinion


class Bar(NamedTuple):
    """A bar as its file says it."""

    symbol: str
    start_at: datetime
    end_at: datetime
    session: date
    segment: str
    values: tuple[float, ...]


hours_of = cache(hours)


def _bar(symbol: str, row: dict[str, str]) -> Bar:
    # A minute that began and ended on one side of a change of clocks, as all at which shares are traded.
    local = datetime.fromisoformat(row["timestamp"]) - MINUTE
    starts = local.replace(tzinfo=NEW_YORK).astimezone(UTC)
    ends, session = starts + MINUTE, local.date()
    opening, closing = hours_of(session)
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
    key, columns = ["symbol", "start_at"], ["symbol", "start_at", "end_at", "session", "segment", *NUMBERS]
    wanted = pl.DataFrame([(*bar[:-1], *bar.values) for bar in expected], schema=columns, orient="row").sort(key)
    stored = lake.rows(f"{SOURCE}.bars").sort(key)
    assert stored.height > 500_000
    assert not stored.select(key).is_duplicated().any()
    assert_frame_equal(stored.select(columns), wanted, check_dtypes=False, check_exact=True)
    assert (stored["is_traded"] == (stored["volume"] > 0)).all()
    assert (stored["instrument_id"] == stored["symbol"]).all()
    assert stored.select("currency", "interval").unique().rows() == [("USD", "1min")]
    assert min(count for _, count in stored["segment"].value_counts().rows()) > 50_000


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


def test_a_symbol_without_a_series_fails_alone(filled: Filled, lake: VendorLake) -> None:
    """The run goes on without it, and ends with the failed check."""
    failed = lake.failed()
    assert sorted(failed) == [object_name(symbol) for symbol in WITHOUT_OFFICIAL]
    for name, error in failed.items():
        assert f"refuses TIME_SERIES_DAILY_ADJUSTED symbol={name.removeprefix('official_daily/')}" in error
        assert "Invalid API call" in error
        assert "Check what is asked about" in error
    assert Counter(
        request.symbol for request in lake.api.requests if request.answer == "invalid_call"
    ) == dict.fromkeys(WITHOUT_OFFICIAL, 2)
    assert filled.code == 1
    assert "9 objects could not be read" in filled.output


def test_the_key_is_nowhere(filled: Filled, lake: VendorLake) -> None:
    assert KEY not in filled.output
    assert sum(path.is_file() for path in lake.home.rglob("*")) > 300
    assert files_with(lake.home, KEY.encode()) == []


def test_a_second_run_changes_nothing(filled: Filled, lake: VendorLake) -> None:
    """The command asks again for everything that the first one asked for."""
    assert len(lake.api.requests) - filled.requests == filled.requests == 20 * (len(MONTHS) + 1)
    assert lake.versions() == filled.versions
    assert landed(lake) == filled.landed != []


# Against the official daily series: every break with its explanation


def queried(lake: VendorLake, query: str) -> list[tuple[Any, ...]]:
    found = lake.lake.sql(query)
    assert found is not None
    return found.fetchall()


# Dividend, ex-date, and the sessions that came on another basis than most of the instrument's. Where only these lack
# it, ours is above the official prices by D / C, with C the close of the ex-date; where it was taken off only these,
# below by D / (C + D).
LACKING = {
    # Put together from downloads of several days: this session came before the dividend of 2020-12-03.
    "BAC": (0.18, date(2020, 12, 3), [date(2020, 11, 18)]),
    # The four sessions before Christmas were downloaded before the dividend of 2021-01-08.
    "T": (0.52, date(2021, 1, 8), [date(2020, 12, day) for day in (21, 22, 23, 24)]),
}
TAKEN_OFF = {
    # These were downloaded after the dividend, the sessions before them earlier.
    "MSFT": (0.56, date(2020, 11, 18), [date(2020, 11, day) for day in (6, 9, 10, 11, 12, 13, 16, 17)]),
    "NVDA": (
        0.16,
        date(2020, 12, 3),
        [date(2020, 11, day) for day in (19, 20, 23, 24, 25, 27, 30)] + [date(2020, 12, day) for day in (1, 2)],
    ),
}
OTHERS = {
    # The eve of quarterly results: the closing auction printed 0.7% above the last minute's trade.
    ("AAPL", date(2020, 10, 29), "close", "close"): -69.38,
    # A tick of three cents at 277 dollars, just beyond the tolerance.
    ("FB", date(2020, 12, 28), "price", "high"): -1.08,
    # The auction of the inclusion in the S&P 500 is in no minute bar: half of the day's volume, at the day's high.
    ("TSLA", date(2020, 12, 18), "close", "close"): -431.80,
    ("TSLA", date(2020, 12, 18), "price", "high"): -147.48,
    ("TSLA", date(2020, 12, 18), "volume", "volume"): 0.4626,
}


def official_close(folder: Path, symbol: str, session: date) -> float:
    (path,) = (folder / "alphavantage" / "daily_adjusted").glob(f"DA-{symbol}-T-*.csv.gz")
    with gzip.open(path, "rt", newline="") as lines:
        return next(float(row["close"]) for row in csv.DictReader(lines) if row["timestamp"] == str(session))


def test_every_break_is_explained(lake: VendorLake, shared_data: Path) -> None:
    columns = "symbol, session, kind, field, coalesce(deviation_bp, ratio), source, against"
    found = {row[:4]: row[4:] for row in queried(lake, f"SELECT {columns} FROM lake.reconciliation_breaks")}
    expected: dict[tuple[str, date, str, str], float] = dict(OTHERS)
    for cases, lacking in ((LACKING, True), (TAKEN_OFF, False)):
        for symbol, (amount, ex_date, sessions) in cases.items():
            close = official_close(shared_data, symbol, ex_date)
            off = amount / close if lacking else -amount / (close + amount)
            expected |= {(symbol, session, "basis", "close"): off * 10_000 for session in sessions}
    assert found.keys() == expected.keys()
    for key, (size, *names) in found.items():
        # Adjusted prices in the files are rounded to four decimals.
        assert size == pytest.approx(expected[key], abs=0.01), key
        assert names == [SOURCE, f"{SOURCE}.official_daily"]
    assert found["BAC", date(2020, 11, 18), "basis", "close"][0] == pytest.approx(62.26, abs=0.01)
    assert found["T", date(2020, 12, 24), "basis", "close"][0] == pytest.approx(179.19, abs=0.01)


def test_daily_bars_brought_to_the_official_basis(lake: VendorLake) -> None:
    """AAPL's file came with the dividend of 2020-11-06 taken off; as traded it opened at 114.01 on 2020-10-26."""
    day = date(2020, 10, 26)
    relation = lake.lake.daily_bars(SOURCE, adjusted="none")
    traded = {
        (row["symbol"], row["session"]): row for row in relation.pl().iter_rows(named=True) if row["symbol"] == "AAPL"
    }
    series = lake.rows(f"{SOURCE}.official_daily").filter(symbol="AAPL")
    theirs = {row["session"]: row for row in series.iter_rows(named=True)}
    assert len(traded) == 52
    for (_, session), row in traded.items():
        for name in ("open", "high", "low"):
            assert row[name] == pytest.approx(theirs[session][name], rel=1e-4), session
        assert (row["adjustment"], row["prices_as_of"]) == ("none", None)
    assert traded["AAPL", day]["open"] == pytest.approx(theirs[day]["open"], rel=1e-5)
    (stored,) = queried(
        lake,
        f"SELECT open, adjusted_as_of FROM {SOURCE}.daily_bars WHERE symbol = 'AAPL' AND session = '{day}'",
    )
    dividend, close = 0.205, theirs[date(2020, 11, 6)]["close"]
    assert stored == (pytest.approx(theirs[day]["open"] * close / (close + dividend), rel=1e-5), LAST)


def test_both_ways_to_adjusted_bars_agree(lake: VendorLake) -> None:
    """In Python, in SQL, and by the command line as of a moment: the same rows."""
    options = {"adjusted": "splits_and_dividends", "convention": "reinvest", "as_of": date(2020, 12, 31)}
    by_python = lake.lake.daily_bars(SOURCE, **options)  # type: ignore[arg-type]
    macro = (
        f"{SOURCE}.adjusted_daily_bars(adjusted := 'splits_and_dividends', convention := 'reinvest', "
        "as_of := DATE '2020-12-31')"
    )
    rows = queried(lake, f"FROM {macro} ORDER BY symbol, session")
    assert by_python.order("symbol, session").fetchall() == rows
    assert len(rows) == len(queried(lake, f"FROM {SOURCE}.daily_bars"))
    now = datetime.now(UTC).isoformat()
    query = f"SELECT count(*) AS n, sum(close) AS closes, sum(volume) AS volumes FROM {macro}"
    output = lake.cli.succeed("sql", query, "--as-of", now, "--format", "csv").splitlines()
    counted, closes, volumes = output[-1].split(",")
    wanted = queried(lake, query)[0]
    assert (int(counted), float(closes), float(volumes)) == (wanted[0], pytest.approx(wanted[1]), wanted[2])
    # Before anything was loaded there is nothing to adjust.
    output = lake.cli.succeed("sql", query, "--as-of", "2020-01-01", "--format", "csv").splitlines()
    assert output[-1].startswith("0,")
