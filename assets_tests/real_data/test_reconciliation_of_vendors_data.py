"""Alpha Vantage's minute files against its official daily series, through the lake: every break with its explanation,
and the vendor's adjusted closes from its dividends and splits.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from assets_tests.vendor_lake import KEY, SOURCE, VendorLake, vendor_lake
from lakehouse.simulators.served_files import ServedFiles
from lakehouse.simulators.vendor_api import VendorApi

FIRST, LAST = date(2020, 10, 26), date(2021, 1, 8)
BOTH = ("AAPL", "AMD", "AMZN", "BA", "BAC", "FB", "INTC", "MSFT", "NVDA", "T", "TSLA")
OFFICIAL = ("AAPL", "AMD", "AMT", "AMZN", "BA", "BAC", "FB", "GE", "IBM", "INTC", "JPM", "MSFT", "NVDA", "T", "TSLA")
END = date(2021, 4, 21)


@pytest.fixture(scope="module")
def minutes(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VendorLake]:
    """Bars and official series of the symbols that have both, as asked for on the evening of 2021-01-08."""
    content = ServedFiles(shared_data / "alphavantage", until=LAST)
    api = VendorApi(content, api_key=KEY, clock=datetime(2021, 1, 9, 3, tzinfo=UTC))
    with vendor_lake(tmp_path_factory.mktemp("vendor"), api, BOTH, adjusted=True) as lake:
        sessions = lake.config.calendar_frame().between(FIRST, LAST)
        loaded = lake.update(sessions)
        assert not loaded["bars"].errors
        assert not loaded["official_daily"].errors
        yield lake


@pytest.fixture(scope="module")
def official(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VendorLake]:
    """The whole official series, as asked for on 2021-04-21 after the close; no bars."""
    api = VendorApi(ServedFiles(shared_data / "alphavantage"), api_key=KEY, clock=datetime(2021, 4, 22, 1, tzinfo=UTC))
    with vendor_lake(tmp_path_factory.mktemp("vendor"), api, (*OFFICIAL, "BF.B")) as lake:
        assert list(lake.load_official().errors) == ["official_daily/BF.B"]
        lake.derive([])
        yield lake


@pytest.fixture
def minutes_lake(minutes: VendorLake, monkeypatch: pytest.MonkeyPatch) -> VendorLake:
    minutes.use(monkeypatch)
    return minutes


@pytest.fixture
def official_lake(official: VendorLake, monkeypatch: pytest.MonkeyPatch) -> VendorLake:
    official.use(monkeypatch)
    return official


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


def test_every_break_is_explained(minutes_lake: VendorLake, shared_data: Path) -> None:
    columns = "symbol, session, kind, field, coalesce(deviation_bp, ratio), source, against"
    found = {row[:4]: row[4:] for row in queried(minutes_lake, f"SELECT {columns} FROM lake.reconciliation_breaks")}
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


def test_daily_bars_brought_to_the_official_basis(minutes_lake: VendorLake) -> None:
    """AAPL's file came with the dividend of 2020-11-06 taken off; as traded it opened at 114.01 on 2020-10-26."""
    day = date(2020, 10, 26)
    relation = minutes_lake.lake.daily_bars(SOURCE, adjusted="none")
    traded = {
        (row["symbol"], row["session"]): row for row in relation.pl().iter_rows(named=True) if row["symbol"] == "AAPL"
    }
    series = minutes_lake.rows(f"{SOURCE}.official_daily").filter(symbol="AAPL")
    theirs = {row["session"]: row for row in series.iter_rows(named=True)}
    assert len(traded) == 52
    for (_, session), row in traded.items():
        for name in ("open", "high", "low"):
            assert row[name] == pytest.approx(theirs[session][name], rel=1e-4), session
        assert (row["adjustment"], row["prices_as_of"]) == ("none", None)
    assert traded["AAPL", day]["open"] == pytest.approx(theirs[day]["open"], rel=1e-5)
    (stored,) = queried(
        minutes_lake,
        f"SELECT open, adjusted_as_of FROM {SOURCE}.daily_bars WHERE symbol = 'AAPL' AND session = '{day}'",
    )
    dividend, close = 0.205, theirs[date(2020, 11, 6)]["close"]
    assert stored == (pytest.approx(theirs[day]["open"] * close / (close + dividend), rel=1e-5), LAST)


def test_both_ways_to_adjusted_bars_agree(minutes_lake: VendorLake) -> None:
    """In Python, in SQL, and by the command line as of a moment: the same rows."""
    options = {"adjusted": "splits_and_dividends", "convention": "reinvest", "as_of": date(2020, 12, 31)}
    by_python = minutes_lake.lake.daily_bars(SOURCE, **options)  # type: ignore[arg-type]
    macro = (
        f"{SOURCE}.adjusted_daily_bars(adjusted := 'splits_and_dividends', convention := 'reinvest', "
        "as_of := DATE '2020-12-31')"
    )
    rows = queried(minutes_lake, f"FROM {macro} ORDER BY symbol, session")
    assert by_python.order("symbol, session").fetchall() == rows
    assert len(rows) == len(queried(minutes_lake, f"FROM {SOURCE}.daily_bars"))
    now = datetime.now(UTC).isoformat()
    query = f"SELECT count(*) AS n, sum(close) AS closes, sum(volume) AS volumes FROM {macro}"
    output = minutes_lake.cli.succeed("sql", query, "--as-of", now, "--format", "csv").splitlines()
    counted, closes, volumes = output[-1].split(",")
    wanted = queried(minutes_lake, query)[0]
    assert (int(counted), float(closes), int(volumes)) == (wanted[0], pytest.approx(wanted[1]), wanted[2])
    # Before anything was loaded there is nothing to adjust.
    output = minutes_lake.cli.succeed("sql", query, "--as-of", "2020-01-01", "--format", "csv").splitlines()
    assert output[-1].startswith("0,")


def test_the_vendors_adjusted_close(official_lake: VendorLake) -> None:
    found = queried(
        official_lake,
        f"""
        SELECT symbol, count(*), max(abs(close / adjusted_close - 1))
        FROM {SOURCE}.adjusted_official_daily(convention := 'reinvest', as_of := DATE '{END}')
        WHERE session >= '2010-01-01' GROUP BY ALL ORDER BY ALL
        """,
    )
    assert tuple(symbol for symbol, *_ in found) == OFFICIAL
    assert {count for symbol, count, _ in found if symbol not in ("FB", "TSLA")} == {2844}
    for symbol, _, difference in found:
        # GE's dividends are rounded in the vendor's own file.
        assert difference < (1e-5 if symbol == "GE" else 1e-9), symbol
    by_crsp = queried(
        official_lake,
        f"""
        SELECT max(abs(close / adjusted_close - 1))
        FROM {SOURCE}.adjusted_official_daily(as_of := DATE '{END}') WHERE session >= '2010-01-01'
        """,
    )
    assert 1e-3 < by_crsp[0][0] < 2.5e-3


def test_the_series_are_the_files(official_lake: VendorLake, shared_data: Path) -> None:
    stored = {
        (row["symbol"], row["session"]): row
        for row in official_lake.rows(f"{SOURCE}.official_daily").iter_rows(named=True)
    }
    actions = {
        (row["symbol"], row["ex_date"], row["kind"]): row["dividend_amount"] or row["split_coefficient"]
        for row in official_lake.rows(f"{SOURCE}.corporate_actions").iter_rows(named=True)
    }
    wanted_actions, rows = {}, 0
    for symbol in OFFICIAL:
        (path,) = (shared_data / "alphavantage" / "daily_adjusted").glob(f"DA-{symbol}-T-*.csv.gz")
        with gzip.open(path, "rt", newline="") as lines:
            for row in csv.DictReader(lines):
                rows += 1
                session = date.fromisoformat(row.pop("timestamp"))
                found = stored[symbol, session]
                assert {name: float(found[name]) for name in row} == {name: float(text) for name, text in row.items()}
                if float(row["dividend_amount"]):
                    wanted_actions[symbol, session, "dividend"] = float(row["dividend_amount"])
                if float(row["split_coefficient"]) != 1:
                    wanted_actions[symbol, session, "split"] = float(row["split_coefficient"])
    assert rows == len(stored)
    assert actions == wanted_actions
    assert actions["AAPL", date(2020, 8, 31), "split"] == 4
    assert actions["TSLA", date(2020, 8, 31), "split"] == 5
