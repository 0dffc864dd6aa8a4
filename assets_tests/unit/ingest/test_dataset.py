"""What a YAML says of a product: how objects are named, how their rows stand, and what a column's text means."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import duckdb
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assets_tests.support.described import changed, resolved, with_bars
from assets_tests.support.objects import read_object
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.domains.market.bars.products import Bars, Product, _warn_of_volume_unit
from lakehouse.ingest.coerce import typed
from lakehouse.ingest.dataset import ApiOrigin
from lakehouse.ingest.formats import Received
from lakehouse.ingest.http.requests import Question, Requests
from lakehouse.ingest.load import load
from lakehouse.ingest.names import ObjectName
from lakehouse.ingest.unpacked import CorruptObject
from lakehouse.settings import settings

NAME = "BTCUSDT/1m/BTCUSDT-1m-2025-01-02.zip"
DAY = date(2025, 1, 2)
START = 1735776000  # 2025-01-02, midnight UTC
HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)


def klines() -> Product:
    return source_named("binance").config.bars


def kline(minute: int = 0, **values: str) -> str:
    row = dict.fromkeys(HEADER.split(","), "0")
    row |= {"open_time": f"{START + 60 * minute}000000", "open": "2.5", "high": "3", "low": "2", "close": "2.75"}
    row |= {"volume": "0.50000000", "count": "7"}
    return ",".join((row | values).values())


def zipped(*lines: str, **further: str) -> bytes:
    """A zip of one CSV file with these lines, and of `further` members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("BTCUSDT-1m-2025-01-02.csv", "".join(line + "\n" for line in lines))
        for name, text in further.items():
            archive.writestr(name, text)
    return out.getvalue()


def read(*lines: str) -> Received:
    return read_object(NAME, zipped(*lines), klines())


def typed_row(line: str, **entries: Any) -> dict[str, Any]:
    product = klines().model_copy(update=entries)
    received = read_object(NAME, zipped(line), product)
    assert received.frame is not None
    groups = {"named:symbol": "BTCUSDT", "named:quote": "USDT"}
    dataset = changed(source_named("binance"), bars=product).bars
    return typed(received.frame.with_columns(**{k: pl.lit(v) for k, v in groups.items()}), dataset).row(0, named=True)


# Names of objects


def parse_name(name: str) -> ObjectName | None:
    return source_named("binance").bars.parse_name(name)


@pytest.mark.parametrize("folder", ["", "data/spot/daily/klines/"])
@pytest.mark.parametrize(("symbol", "quote"), [("BTCUSDT", "USDT"), ("ETHEUR", "EUR"), ("1000SATSUSDC", "USDC")])
def test_a_name_says_the_day_and_the_values_of_its_groups(folder: str, symbol: str, quote: str) -> None:
    values = {"symbol": symbol, "quote": quote, "date": str(DAY)}
    assert parse_name(f"{folder}{symbol}/1m/{symbol}-1m-{DAY}.zip") == ObjectName(DAY, DAY, None, values)


@pytest.mark.parametrize(
    "name",
    [
        "ETHBTC/1m/ETHBTC-1m-2025-01-02.zip",
        "BTCUSDT/1m/ETHUSDT-1m-2025-01-02.zip",
        "BTCUSDT/1m/BTCUSDT-1m-2025-02-30.zip",
        "BTCUSDT/1m/BTCUSDT-1m-2025-01-02.zip.CHECKSUM",
        "other/BTCUSDT/1m/BTCUSDT-1m-2025-01-02.zip",
    ],
    ids=["another quote", "another symbol", "no day", "a checksum", "another folder"],
)
def test_a_foreign_object_says_nothing(name: str) -> None:
    assert parse_name(name) is None


def requests_of(name: str) -> Requests:
    """The requests of a dataset, by the settings of now."""
    origin = source_named("alpha_vantage").dataset(name).origin
    assert isinstance(origin, ApiOrigin)
    return origin.requests


def intraday() -> Requests:
    return requests_of("bars")


def daily() -> Requests:
    return requests_of("official_daily")


def asked(requests: Requests, subject: str, month: date, **chosen: str) -> Question:
    """The one question about a subject and a month."""
    of_one = replace(requests, subjects=lambda: (subject,), chosen=lambda: chosen)
    (question,) = of_one.questions(cast("Lake", None), [month])
    return question


symbols = st.text(st.characters(categories=("Lu", "Nd"), include_characters=".^-= &+"), min_size=1, max_size=6)


@given(
    symbol=symbols, month=st.dates(date(1999, 11, 1), date(2040, 12, 31)), adjusted=st.sampled_from(["true", "false"])
)
def test_the_name_of_an_answer_says_what_was_asked_for(symbol: str, month: date, adjusted: str) -> None:
    month = month.replace(day=1)
    name = asked(intraday(), symbol, month, adjusted=adjusted).name
    assert name == f"bars/{month:%Y-%m}/adjusted={adjusted}/{symbol}"
    named = intraday().parse_name(name)
    assert named is not None
    assert named.values == {"month": f"{month:%Y-%m}", "adjusted": adjusted, "symbol": symbol}
    assert (named.first_day, (named.last_day + timedelta(days=1)).day, named.hour) == (month, 1, None)
    assert named.last_day - month < timedelta(days=31)
    assert daily().parse_name(name) is None


def test_an_answer_without_a_month_is_about_the_whole_history() -> None:
    name = asked(daily(), "BRK.B", DAY).name
    assert name == "official_daily/BRK.B"
    assert daily().parse_name(name) == ObjectName(date.min, date.max, None, {"symbol": "BRK.B"})
    assert intraday().parse_name(name) is None
    assert (intraday().by_month, daily().by_month) == (True, False)


def test_what_stays_with_the_rows_is_part_of_the_name_and_the_environments_choice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (intraday().kept, daily().kept) == (("symbol", "adjusted"), ("symbol",))
    assert intraday().parameters() == intraday().declared
    monkeypatch.setenv("LAKEHOUSE_ALPHA_VANTAGE_ADJUSTED", "true")
    # What doesn't stay with the rows is the YAML's alone: another answer would stand under the same name.
    monkeypatch.setenv("LAKEHOUSE_ALPHA_VANTAGE_INTERVAL", "5min")
    monkeypatch.setenv("LAKEHOUSE_ALPHA_VANTAGE_SYMBOL", "MSFT")
    settings.cache_clear()
    assert intraday().parameters() == {**intraday().declared, "adjusted": "true"}
    assert daily().parameters() == daily().declared


def test_a_request_is_filled_in() -> None:
    assert asked(intraday(), "AAPL", date(2020, 11, 1)).parameters == {
        "function": "TIME_SERIES_INTRADAY",
        "symbol": "AAPL",
        "interval": "1min",
        "adjusted": "false",
        "extended_hours": "true",
        "outputsize": "full",
        "month": "2020-11",
        "datatype": "csv",
    }
    assert asked(daily(), "AAPL", DAY).parameters["symbol"] == "AAPL"


BARS = {
    "format": "csv",
    "time": {"columns": ["t"], "format": "epoch"},
    "columns": {name: name for name in ("instrument_id", "open", "high", "low", "close", "volume")},
    "constants": {"currency": "EUR"},
    "objects": {"pattern": r"(?P<date>.*)\.csv", "holds": "day"},
}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"objects": None}, "bars needs either `objects`"),
        ({"request": {"symbol": "{symbol}"}}, "and not both"),
        ({"constants": {}}, "give no currency"),
        ({"constants": {"currency": "EUR", "colour": "red"}}, "'colour'.* is no column of raw_bars"),
        ({"named": {"symbol": "ticker"}}, "named: ticker is none of date"),
        ({"objects": None, "request": {"adjusted": "true"}, "named": {"symbol": "ticker"}}, "none of adjusted, month"),
        ({"interval": "1 minute"}, "'1 minute' is not a number followed by"),
        ({"volume_unit": 0}, "volume_unit_before"),
        ({"columns": {"open": "o"}}, "give no close, .*, volume; .*; write volume: none where there"),
        ({"volume": "none"}, "volume: none contradicts the column `volume`"),
        ({"volume": "nome"}, "volume"),
        ({"objects": {"pattern": r".*\.csv", "holds": "day"}}, "lacks the group .*date"),
        ({"objects": {"pattern": r"(?P<date>.*)\.csv", "holds": "hour"}}, "lacks the group .*hour"),
        ({"format": "csv.bz2"}, "format"),
        ({"colums": {}}, "colums"),
    ],
)
def test_a_product_that_cannot_work_is_refused(entries: dict[str, Any], words: str) -> None:
    assert Bars.model_validate(BARS).interval_length == timedelta(minutes=1)
    with pytest.raises(ValueError, match=words):
        Bars.model_validate(BARS | entries)


def test_the_former_unit_of_volumes_serves_the_migration_alone(caplog: pytest.LogCaptureFixture) -> None:
    _warn_of_volume_unit.cache_clear()
    described = Bars.model_validate(BARS | {"volume_unit": 1e-8})
    assert described.volume_unit_before == 1e-8
    assert "`volume_unit` of a defs.yaml counts no more" in caplog.text
    assert "volume_unit_before" not in described.model_dump(), "it is no part of how rows are read"
    expressions = {
        unit: with_bars(source_named("xetra"), volume_unit_before=unit).contract("raw_bars").parameters["volume"]
        for unit in (1e-8, 0.01, 100.0)
    }
    with duckdb.connect() as connection:
        for unit, volume in expressions.items():
            (found,) = connection.execute(f"SELECT {volume} FROM (SELECT 123456789 AS volume)").fetchone() or ()
            assert found == float(Fraction(123456789) * Fraction(str(unit))), "rounded once"


def test_a_request_needs_an_api_that_it_is_made_to() -> None:
    data = source_named("alpha_vantage").config.model_dump()
    with pytest.raises(ValueError, match="needs the entry `api`"):
        resolved(SourceConfig.model_validate(data | {"api": None}))


# Rows without a header line


@pytest.mark.parametrize("header", [(), (HEADER,)], ids=["headless", "with a header"])
@pytest.mark.parametrize("ragged", [False, True], ids=["sound", "with a ragged row"])
def test_a_header_line_that_comes_is_no_row(header: tuple[str, ...], ragged: bool) -> None:
    lines = [kline(0), *["1,2,3"] * ragged, kline(1, open="2.6")]
    received = read(*header, *lines)
    assert received.frame is not None
    assert received.rows == 2 + ragged
    assert received.frame["open"].to_list() == ["2.5", "2.6"]
    assert received.frame["row_number"].to_list() == [1, 2 + ragged]
    assert received.text([2 + ragged, 1]) == [lines[-1], lines[0]]
    assert received.malformed == ({2: ("1,2,3", "the row has 3 fields where the header has 12")} if ragged else {})


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("row", ["1,2", kline(5) + ",13"], ids=["short", "long"])
def test_a_headless_row_of_another_width_is_refused_wherever_it_stands(place: int, row: str) -> None:
    lines = [kline(0), kline(1)]
    lines.insert(place, row)
    received = read(*lines)
    assert (received.rows, received.malformed.keys()) == (3, {place + 1})
    assert received.malformed[place + 1][0] == row
    assert received.frame is not None
    assert received.frame["row_number"].to_list() == [number for number in (1, 2, 3) if number != place + 1]


def test_a_header_that_comes_says_where_the_columns_are() -> None:
    names, values = HEADER.split(","), kline(0).split(",")
    received = read(",".join([names[0], *names[:0:-1]]), ",".join([values[0], *values[:0:-1]]))
    assert received.frame is not None
    assert received.frame.select("open", "close", "count").rows() == [("2.5", "2.75", "7")]


def test_a_header_alone_is_no_trade_and_nothing_at_all_is_damage() -> None:
    assert read(HEADER).rows == 0
    for data in (zipped(), zipped("")):
        with pytest.raises(CorruptObject, match="is empty"):
            read_object(NAME, data, klines())


# Zip files

WHOLE = zipped(*(kline(minute) for minute in range(5)))
FRAME = read_object(NAME, WHOLE, klines()).frame


@given(end=st.integers(0, len(WHOLE) - 1))
def test_a_cut_zip_file_is_never_half_loaded(end: int) -> None:
    with pytest.raises(CorruptObject, match=f"{NAME} is a cut or damaged zip file"):
        read_object(NAME, WHOLE[:end], klines())


@given(place=st.integers(0, len(WHOLE) - 1), value=st.integers(0, 255))
def test_a_zip_file_with_a_wrong_byte_is_refused_or_says_the_same(place: int, value: int) -> None:
    try:
        received = read_object(NAME, WHOLE[:place] + bytes([value]) + WHOLE[place + 1 :], klines())
    except CorruptObject as damage:
        assert NAME in str(damage)  # noqa: PT017
    else:
        assert received.frame is not None
        assert received.frame.equals(FRAME)


# Where the directory of the archive begins, and the length of a name in it: zipfile fails on them in other ways.
@pytest.mark.parametrize(
    ("before_end", "values"), [(range(3, 7), (1, 99, 255)), (range(22 + 25 + 18, 22 + 90), (0, 14))]
)
def test_a_damaged_directory_is_no_accident(before_end: range, values: tuple[int, ...]) -> None:
    refused = 0
    for place in (len(WHOLE) - back for back in before_end):
        for value in values:
            try:
                received = read_object(NAME, WHOLE[:place] + bytes([value]) + WHOLE[place + 1 :], klines())
            except CorruptObject:
                refused += 1
            else:
                assert received.frame is not None
                assert received.frame.equals(FRAME)
    assert refused > 3


def test_a_zip_file_holds_one_file() -> None:
    with pytest.raises(CorruptObject, match=f"{NAME} holds 2 files where one CSV is expected; have it sent again"):
        read_object(NAME, zipped(kline(), other=kline()), klines())
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    with pytest.raises(CorruptObject, match="holds 0 files"):
        read_object(NAME, empty.getvalue(), klines())
    assert read_object(NAME, zipped(kline(), **{"folder/": ""}), klines()).rows == 1


def test_a_csv_that_was_not_zipped_is_damaged() -> None:
    with pytest.raises(CorruptObject, match="is a cut or damaged zip file"):
        read_object(NAME, kline().encode(), klines())


# What the texts mean


@given(
    moment=st.datetimes(datetime(1974, 1, 1), datetime(2199, 12, 31)),
    unit=st.sampled_from([1, 1_000, 1_000_000, 1_000_000_000]),
)
def test_epoch_times_tell_their_unit_by_their_size(moment: datetime, unit: int) -> None:
    moment = moment.replace(tzinfo=UTC, microsecond=moment.microsecond if unit > 1_000 else 0)
    count = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * unit // 1_000_000
    row = typed_row(kline(open_time=str(count)))
    assert (row["start_at"], row["end_at"]) == (moment, moment + timedelta(minutes=1))
    assert row["day"] == moment.date()


@pytest.mark.parametrize("count", ["", "soon", "1735776000.5", "9223372036854775808", "2025-01-02"])
def test_what_is_no_count_is_no_time(count: str) -> None:
    row = typed_row(kline(open_time=count))
    assert (row["start_at"], row["end_at"], row["day"]) == (None, None, None)


@given(coins=st.decimals(0, 10**12, allow_nan=False, allow_infinity=False, places=8))
def test_a_volume_is_the_double_next_to_what_is_written(coins: Decimal) -> None:
    assert typed_row(kline(volume=f"{coins:f}"))["volume"] == float(coins)


@pytest.mark.parametrize(
    ("written", "volume"), [("1e-8", 1e-8), ("-0.5", -0.5), ("96035802467.5", 96035802467.5), ("n/a", None)]
)
def test_a_volume_in_other_words(written: str, volume: float | None) -> None:
    assert typed_row(kline(volume=written))["volume"] == volume


def priced(written: str, unit: float) -> float | None:
    row = kline(close=written)
    dataset = with_bars(source_named("binance"), price_unit=unit).bars
    received = read_object(NAME, zipped(row), dataset.rows)
    assert received.frame is not None
    groups = {"named:symbol": "BTCUSDT", "named:quote": "USDT"}
    text = received.frame.with_columns(pl.lit(value).alias(name) for name, value in groups.items())
    found = typed(text, dataset).row(0, named=True)
    assert found["volume"] == 0.5, "only prices are counted in their unit"
    return found["close"]


@given(count=st.integers(-(2**63), 2**63), power=st.integers(-12, 3))
@example(count=170_500_000_001, power=-9)
@example(count=9007199254740993, power=-9)
def test_a_price_in_units_of_a_power_of_ten_is_rounded_once(count: int, power: int) -> None:
    assert priced(str(count), float(f"1e{power}")) == float(Fraction(count) * Fraction(10) ** power)


@pytest.mark.parametrize(
    ("written", "unit", "price"),
    [
        ("12345.67", 0.01, 123.4567),
        ("0.07", 0.01, 0.0007),
        ("1.5E3", 0.01, 15.0),
        ("1e-2", 100.0, 1.0),
        ("17", 0.03125, 0.53125),
        ("n/a", 0.01, None),
        ("", 0.01, None),
        ("1e", 0.01, None),
        ("inf", 0.01, None),
    ],
)
def test_a_price_in_other_units(written: str, unit: float, price: float | None) -> None:
    assert priced(written, unit) == price


def test_dividends_and_adjusted_closes_are_in_the_unit_of_prices() -> None:
    source = source_named("wiki")
    daily = source.config.official_daily
    assert daily is not None
    described = changed(source, official_daily=daily.model_copy(update={"price_unit": 0.01})).official_daily
    assert described is not None
    assert set(described.units) == {"open", "high", "low", "close", "adjusted_close", "dividend_amount"}
    with pytest.raises(ValueError, match="price_unit"):
        Bars.model_validate(BARS | {"price_unit": 0})


def test_a_number_of_trades_is_whole() -> None:
    assert typed_row(kline(count="7"))["trades"] == 7
    assert typed_row(kline(count="0.5"))["trades"] is None


@pytest.mark.parametrize(("said", "meant"), [("true", True), ("false", False), ("True", None), ("yes", None)])
def test_what_was_asked_for_stays_with_the_rows(said: str, meant: bool | None) -> None:
    row = dict.fromkeys(("open", "high", "low", "close", "volume"), "1") | {"timestamp": "2020-11-27 09:31:00"}
    text = pl.DataFrame([row | {"named:symbol": "AAPL", "named:adjusted": said}])
    found = typed(text, source_named("alpha_vantage").bars).row(0, named=True)
    assert found["is_adjusted"] is meant
    assert (found["instrument_id"], found["symbol"], found["currency"]) == ("AAPL", "AAPL", "USD")
    # A label at the start of its minute.
    assert found["start_at"] == datetime(2020, 11, 27, 14, 31, tzinfo=UTC)


# Through the loader


def publish(folder: Path, symbol: str, *lines: str) -> None:
    path = folder / f"{symbol}/1m/{symbol}-1m-{DAY}.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(zipped(*lines))


def test_klines_become_bars_in_the_currency_of_their_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_BINANCE_URL", str(tmp_path / "bucket"))
    publish(tmp_path / "bucket", "BTCUSDT", kline(0), kline(1, volume="1.5"), kline(2, open_time="0"))
    publish(tmp_path / "bucket", "BTCEUR", kline(0, open="2", low="1"))
    publish(tmp_path / "bucket", "ETHBTC", kline(0))
    lake, config = Lake.open(), source_named("binance")
    loaded = load(lake, config.bars, [DAY])
    assert (loaded.objects, loaded.rows_received, loaded.rows_quarantined) == (
        {"loaded": 2, "empty": 0, "failed": 0},
        4,
        1,
    )
    derive_bars(lake, config, [DAY])
    derive_daily_bars(lake, config, [DAY])
    rows = lake.sql(
        "SELECT instrument_id, currency, open, close, volume, trades, turnover, bar_count FROM binance.daily_bars "
        "ORDER BY instrument_id"
    ).fetchall()
    # The turnover is in the currency: 2 coins at 2.75.
    assert rows == [
        ("BTCEUR", "EUR", 2.0, 2.75, 0.5, 7, 1.375, 1),
        ("BTCUSDT", "USDT", 2.5, 2.75, 2.0, 14, 5.5, 2),
    ]
    (refused,) = lake.table("quarantine").to_polars().iter_rows(named=True)
    assert refused["reasons"] == ["the time is outside its file's date"]


def test_a_source_names_the_currencies_that_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_BINANCE_URL", str(tmp_path / "bucket"))
    publish(tmp_path / "bucket", "BTCUSDT", kline(0))
    publish(tmp_path / "bucket", "BTCUSDC", kline(0))
    source = changed(source_named("binance"), currencies=("USDC", "EUR"))
    lake = Lake.open()
    assert load(lake, source.bars, [DAY]).rows_quarantined == 1
    (refused,) = lake.table("quarantine").to_polars().iter_rows(named=True)
    assert (refused["object"][:7], refused["reasons"]) == ("BTCUSDT", ["currency is none of USDC, EUR"])
    standard = changed(source_named("binance"), currencies=None)
    assert load(Lake(str(tmp_path / "other")), standard.bars, [DAY]).rows_quarantined == 2


def test_a_changed_copy_keeps_nothing_that_was_computed_before() -> None:
    product = source_named("xetra").config.bars
    assert product.object_columns
    columns = {"isin": "a", "volume": "b"}
    copied = product.model_copy(
        update={"columns": columns, "time": product.time.model_copy(update={"columns": ("c",)})}
    )
    assert copied.object_columns == ["a", "b", "c"]
