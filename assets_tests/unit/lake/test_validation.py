"""Rows against their contract: every violation is refused with its own reason, and a sound row never is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets_tests.support.described import changed, contract_of
from assets_tests.support.reference import HEADER, csv_line, isin, isin_is_valid
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.ingest.load import LoadResult, load
from lakehouse.lake.contract import Contract
from lakehouse.lake.engine import connect
from lakehouse.lake.standards import STANDARDS
from lakehouse.lake.validation import broken_rules, good, predicates_of, reasons

DAY = date(2017, 6, 29)
BMW = dict(
    zip(
        HEADER,
        ("DE0005190003", "BMW", "BAY.MOTOREN WERKE AG ST", "Common stock", "EUR", "2504446", str(DAY), "08:00",
         "83.29", "83.31", "83.28", "83.3", "1204", "11"),
        strict=True,
    )
)  # fmt: skip

MISSING = "{} is missing or not a {}"
NO_TIME = "Date Time is no time of the form %Y-%m-%d %H:%M (from 1800 to 2199)"
VIOLATIONS = [
    ({"ISIN": ""}, MISSING.format("instrument_id", "string")),
    ({"Currency": ""}, MISSING.format("currency", "string")),
    ({"StartPrice": ""}, MISSING.format("open", "double")),
    ({"StartPrice": "n/a"}, MISSING.format("open", "double")),
    ({"MaxPrice": "8O"}, MISSING.format("high", "double")),
    ({"MinPrice": "83,28"}, MISSING.format("low", "double")),
    ({"EndPrice": ""}, MISSING.format("close", "double")),
    ({"TradedVolume": ""}, MISSING.format("volume", "double")),
    ({"TradedVolume": "1.5 shares"}, MISSING.format("volume", "double")),
    ({"TradedVolume": "NaN"}, "volume is not finite"),
    ({"NumberOfTrades": "eleven"}, "trades is not a bigint"),
    ({"NumberOfTrades": "1.5"}, "trades is not a bigint"),
    ({"Date": ""}, MISSING.format("start_at", "timestamp")),
    ({"Date": "2017-06-31"}, MISSING.format("start_at", "timestamp")),
    ({"Time": "24:00"}, MISSING.format("start_at", "timestamp")),
    ({"Time": "8 Uhr"}, MISSING.format("start_at", "timestamp")),
    ({"Time": "8 Uhr"}, NO_TIME),
    ({"Date": ""}, NO_TIME),
    ({"Date": "-2017-06-29"}, NO_TIME),
    ({"Date": "12017-06-29"}, NO_TIME),
    ({"Date": "+12017-06-29"}, NO_TIME),
    ({"Date": "-262143-01-01"}, NO_TIME),
    ({"Date": "0000-06-29"}, NO_TIME),
    ({"Date": "0001-01-01"}, NO_TIME),
    ({"Date": "9999-12-31"}, NO_TIME),
    ({"Date": "99999999999999999999-06-29"}, NO_TIME),
    ({"Date": "2017-06-29\x00"}, NO_TIME),
    ({"MinPrice": "1e-320"}, "a price is below 10^-12"),
    ({"TradedVolume": "9" * 400}, "volume is not finite"),
    ({"StartPrice": "nan"}, "open is not finite"),
    ({"MaxPrice": "inf"}, "high is not finite"),
    ({"MinPrice": "-inf"}, "low is not finite"),
    ({"EndPrice": "1e999"}, "close is not finite"),
    ({"MinPrice": "-83.28"}, "a price is zero or negative"),
    ({"MinPrice": "0"}, "a price is zero or negative"),
    ({"MaxPrice": "83.2"}, "high is below open, low or close"),
    ({"MaxPrice": "83.295"}, "high is below open, low or close"),
    ({"MinPrice": "83.295"}, "low is above open, high or close"),
    ({"MinPrice": "83.305"}, "low is above open, high or close"),
    ({"TradedVolume": "-1"}, "volume is negative"),
    ({"NumberOfTrades": "-1"}, "trades is negative"),
    ({"MaxPrice": "1e300"}, "a price is beyond 10^15"),
    ({"TradedVolume": "1000000000000000000"}, "volume is beyond 10^18"),
    ({"NumberOfTrades": "9223372036854775808"}, "trades is not a bigint"),
    ({"Currency": "EUX"}, "currency is not an ISO 4217 currency code"),
    ({"Currency": "eur"}, "currency is not an ISO 4217 currency code"),
    ({"Currency": "GBX"}, "currency is not an ISO 4217 currency code"),
    ({"ISIN": "DE0005190004"}, "instrument_id is not an ISIN (ISO 6166: twelve characters with a check digit)"),
    ({"ISIN": "de0005190003"}, "instrument_id is not an ISIN (ISO 6166: twelve characters with a check digit)"),
    ({"ISIN": "DE0005190003 "}, "instrument_id is not an ISIN (ISO 6166: twelve characters with a check digit)"),
    ({"ISIN": "DE00051\x0090003"}, "instrument_id is not an ISIN (ISO 6166: twelve characters with a check digit)"),
    ({"ISIN": "DE0005'; --"}, "instrument_id is not an ISIN (ISO 6166: twelve characters with a check digit)"),
    ({"Date": "2017-06-28"}, "the time is outside its file's date"),
    ({"Date": "2027-06-29"}, "the time is outside its file's date"),
]


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "vendor"
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", str(folder))
    return folder


def take(lake: Lake, *sessions: date) -> LoadResult:
    config = source_named("xetra")
    return load(lake, config.bars, sessions)


def publish(folder: Path, lines: list[str], day: date = DAY) -> str:
    name = f"{day}/{day}_BINS_XETR08.csv"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes("".join(line + "\n" for line in [",".join(HEADER), *lines]).encode())
    return name


@pytest.mark.parametrize("ragged", [False, True], ids=["read in one go", "read line by line"])
def test_each_violation_goes_to_the_quarantine_with_its_reason(ragged: bool, vendor: Path) -> None:
    lines = [csv_line((BMW | change).values()) for change, _ in VIOLATIONS]
    sound = csv_line(BMW.values())
    lines = [sound, *lines, *(["cut,off"] if ragged else [])]
    name = publish(vendor, lines)
    lake = Lake.open()
    loaded = take(lake, DAY)
    assert (loaded.rows_received, loaded.rows_quarantined) == (len(lines), len(lines) - 1)
    assert lake.table("xetra/raw_bars").to_polars()["row_number"].to_list() == [1]
    stored = lake.table("quarantine").to_polars().sort("row_number")
    assert stored["row"].to_list() == lines[1:]
    assert stored["row_number"].to_list() == list(range(2, len(lines) + 1))
    assert set(stored["object"]) == {name}
    wanted = [reason for _, reason in VIOLATIONS] + ["the row has 2 fields where the header has 14"] * ragged
    missing = [
        (row, given)
        for row, reason, given in zip(stored["row"], wanted, stored["reasons"], strict=True)
        if reason not in given
    ]
    assert missing == []
    # Every day here is a session, whichever file it stands in.
    assert not [given for given in stored["reasons"] if "the day is no session of XETR" in given]


@pytest.mark.parametrize("day", [date(2017, 7, 1), date(2017, 7, 2)])
def test_bars_of_a_day_without_a_session_are_refused_for_that_reason_alone(day: date, vendor: Path) -> None:
    publish(vendor, [csv_line((BMW | {"Date": str(day)}).values())], day)
    lake = Lake.open()
    take(lake, date(2017, 7, 3))
    assert lake.table("quarantine").to_polars()["reasons"].to_list() == [["the day is no session of XETR"]]
    assert lake.table("quarantine").to_polars()["session"].to_list() == [date(2017, 7, 3)]


def test_a_row_that_breaks_several_rules_says_so(vendor: Path) -> None:
    publish(vendor, [csv_line((BMW | {"ISIN": "X", "TradedVolume": "-1", "Time": "?"}).values())])
    lake = Lake.open()
    take(lake, DAY)
    assert sorted(lake.table("quarantine").to_polars()["reasons"].to_list()[0]) == sorted(
        [
            VIOLATIONS[-6][1],
            "volume is negative",
            MISSING.format("start_at", "timestamp"),
            MISSING.format("end_at", "timestamp"),
            NO_TIME,
        ]
    )


def test_a_bar_before_the_first_session_is_none_of_the_sources(vendor: Path) -> None:
    """2017-06-16 was a session, before the source's first one: nobody may say that it was none."""
    day = date(2017, 6, 16)
    publish(vendor, [csv_line((BMW | {"Date": str(day)}).values())], day)
    lake = Lake.open()
    assert take(lake, date(2017, 6, 19)).rows_received == 0


def negative(source: BarSource) -> Contract:
    return changed(source, negative_prices=True).contract("raw_bars")


prices = st.one_of(st.floats(), st.floats(-2, 2), st.sampled_from([0.0, -0.0, 1.0, 1e15, 9.9e14, 1e-320, 1e-12]))
volumes = st.one_of(st.floats(), st.floats(-2, 2), st.sampled_from([None, 0.0, -0.0, 1e-8, 9.9e17, 1e18]))
counts = st.one_of(st.integers(-2, 2), st.integers(-(2**63), 2**63 - 1))
ROW = st.fixed_dictionaries(
    {
        "open": prices,
        "high": prices,
        "low": prices,
        "close": prices,
        "volume": volumes,
        "trades": st.one_of(st.none(), counts),
        "vwap": st.one_of(st.none(), prices),
        "instrument_id": st.one_of(
            st.sampled_from(["DE0005190003", "DE0005190004", isin("US000SIM001")]), st.text(max_size=13)
        ),
        "currency": st.one_of(st.sampled_from(["EUR", "USD", "GBX", "eur", "XXX"]), st.text(max_size=4)),
    }
)


def is_sound(row: dict, negative_prices: bool) -> bool:
    values = [row[name] for name in ("open", "high", "low", "close")]
    given = [*values, *([] if row["vwap"] is None else [row["vwap"]])]
    if not all(math.isfinite(value) and (value == 0 or 1e-12 <= abs(value) < 1e15) for value in given):
        return False
    if not negative_prices and (
        min(values) <= 0 or (row["vwap"] is not None and row["vwap"] <= 0 and row["volume"] != 0)
    ):
        return False
    if row["high"] < max(values) or row["low"] > min(values):
        return False
    if row["volume"] is None or not 0 <= row["volume"] < 1e18 or (row["trades"] or 0) < 0:
        return False
    return isin_is_valid(row["instrument_id"]) and STANDARDS["currency"].follows(row["currency"])


TYPES = dict.fromkeys(("open", "high", "low", "close", "volume", "vwap"), "DOUBLE")
TYPES |= {"trades": "BIGINT", "instrument_id": "VARCHAR", "currency": "VARCHAR"}


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect("") as opened:
        columns = ", ".join(f"{name} {kind}" for name, kind in TYPES.items())
        opened.execute(f"CREATE TABLE given (number BIGINT, {columns})")
        opened.execute(
            """CREATE VIEW received AS SELECT *, '1min' AS interval, now() AS end_at, current_date AS session,
            TIMESTAMPTZ '2020-11-02 15:00:00+00' AS start_at,
            'o' AS object, 'v' AS object_version, 1 AS row_number, now() AS published_at, now() AS ingested_at,
            NULL::VARCHAR AS symbol, NULL::BIGINT AS vendor_revision FROM given"""
        )
        yield opened


@given(rows=st.lists(ROW, min_size=1, max_size=5), negative_prices=st.booleans())
def test_any_row_is_good_or_has_reasons_as_rule_15_says(
    rows: list[dict], negative_prices: bool, connection: duckdb.DuckDBPyConnection
) -> None:
    config = source_named("xetra")
    contract = negative(config) if negative_prices else config.contract("raw_bars")
    values = [[number, *(row[name] for name in TYPES)] for number, row in enumerate(rows)]
    connection.execute("DELETE FROM given")
    connection.executemany(f"INSERT INTO given VALUES (?, {', '.join('?' * len(TYPES))})", values)
    rules = predicates_of(contract, connection, "received")
    told = connection.execute(f"SELECT {good(rules)}, len({reasons(rules)}) FROM received ORDER BY number").fetchall()
    broken = broken_rules(rules, connection, "received")
    assert [is_good for is_good, _ in told] == [is_sound(row, negative_prices) for row in rows]
    assert all(is_good == (count == 0) for is_good, count in told)
    assert sum(broken.values()) == sum(count for _, count in told)


@given(body=st.from_regex(r"\A(DE|US|XS|GB)[A-Z0-9]{9}[0-9]\Z"))
def test_isins_are_judged_by_their_check_digit(body: str) -> None:
    assert STANDARDS["isin"].follows(body) == isin_is_valid(body)


def test_a_null_breaks_the_rule_of_presence_and_no_other() -> None:
    contract = contract_of("raw_bars")
    with duckdb.connect() as connection:
        columns = ", ".join(f'NULL AS "{name}"' for name in contract.column_names)
        connection.execute(f"CREATE TABLE rows AS SELECT {columns}")
        broken = broken_rules(predicates_of(contract, connection, "rows"), connection, "rows")
    assert set(broken) == {f"{column.name}_present" for column in contract.columns if not column.nullable}
