"""Objects as they come: whatever their bytes, every row is received once, as good fields, as a malformed row with
a reason, or the whole object is refused with an error that names it. No byte sequence may end in an accident.
"""

from __future__ import annotations

import csv
import gzip
import io
from datetime import UTC, date, datetime

import polars as pl
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from assets_tests.support.described import changed as changed_source
from assets_tests.support.described import resolved
from assets_tests.support.objects import read_object
from assets_tests.support.reference import HEADER, csv_line, isin
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.products import Bars, Product
from lakehouse.ingest.coerce import typed
from lakehouse.ingest.formats import BlockReader, Received, _records
from lakehouse.ingest.names import ObjectName
from lakehouse.ingest.unpacked import CorruptObject

NAME = "2017-06-29/2017-06-29_BINS_XETR08.csv"
BMW = ("DE0005190003", "BMW", "BAY.MOTOREN WERKE AG ST", "Common stock", "EUR", "2504446", "2017-06-29", "08:00",
       "83.29", "83.31", "83.28", "83.3", "1204", "11")  # fmt: skip


def xetra(**entries: object) -> Product:
    return source_named("xetra").config.bars.model_copy(update=entries)


def body(*rows: tuple[str, ...] | str, header: str = ",".join(HEADER), end: str = "\n") -> bytes:
    lines = [header, *(row if isinstance(row, str) else csv_line(row) for row in rows)]
    return "".join(line + end for line in lines).encode()


def changed(**values: str) -> tuple[str, ...]:
    return tuple(values.get(column, value) for column, value in zip(HEADER, BMW, strict=True))


def read(data: bytes, product: Product | None = None, name: str = NAME) -> Received:
    return read_object(name, data, product or xetra())


def fields(received: Received) -> list[tuple[str | None, ...]]:
    """The well-formed rows, in the order of the header."""
    return [] if received.frame is None else received.frame.select(HEADER).rows()


def test_sound_rows_keep_their_text_and_their_numbers() -> None:
    second = changed(Time="08:01", SecurityDesc='MUSTER, "NEU" AG')
    received = read(body(BMW, second))
    assert received.rows == 2
    assert fields(received) == [BMW, second]
    assert received.frame["row_number"].to_list() == [1, 2]
    assert received.text([2, 1]) == [csv_line(second), csv_line(BMW)]
    assert received.malformed == {}


@pytest.mark.parametrize("blank", ["\n", "\r\n", " \t\n\n", "\n" * 200_000])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
def test_blank_lines_before_the_header_do_not_make_an_object_empty(blank: str, mark: bytes) -> None:
    received = read(mark + blank.encode() + body(BMW, changed(Time="08:01")))
    assert fields(received) == [BMW, changed(Time="08:01")]
    assert received.frame["row_number"].to_list() == [1, 2]
    assert received.text([2]) == [csv_line(changed(Time="08:01"))]


@pytest.mark.parametrize("data", [b"", b"\n", b" \r\n\n"])
def test_an_object_of_blank_lines_alone_is_empty(data: bytes) -> None:
    with pytest.raises(CorruptObject, match="is empty"):
        read(data)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "not ended"])
@pytest.mark.parametrize("broken", [(), (BMW[:-1],)], ids=["sound", "with a ragged row"])
def test_line_ends_and_byte_order_marks_are_no_content(end: str, mark: bytes, last: bool, broken: tuple) -> None:
    data = mark + body(BMW, changed(Time="08:01"), *broken, end=end)
    received = read(data if last else data.removesuffix(end.encode()))
    assert received.rows == 2 + len(broken)
    assert fields(received) == [BMW, changed(Time="08:01")]
    assert received.text([2]) == [csv_line(changed(Time="08:01"))]


@pytest.mark.parametrize(
    ("row", "count"),
    [
        (BMW[:-1], 13),
        ((*BMW, "1"), 15),
        (csv_line(BMW).replace("BAY.MOTOREN WERKE AG ST", "BAY.MOTOREN, WERKE"), 15),
        (BMW[:3], 3),
    ],
    ids=["missing field", "extra field", "unquoted comma", "cut"],
)  # fmt: skip
def test_only_the_row_that_does_not_fit_its_header_is_refused(row: tuple[str, ...] | str, count: int) -> None:
    received = read(body(BMW, row, changed(Time="08:02")))
    assert received.rows == 3
    assert fields(received) == [BMW, changed(Time="08:02")]
    assert received.frame["row_number"].to_list() == [1, 3]
    text = row if isinstance(row, str) else csv_line(row)
    assert received.malformed == {2: (text, f"the row has {count} fields where the header has 14")}
    assert received.text([1, 3]) == [csv_line(BMW), csv_line(changed(Time="08:02"))]


def test_an_open_quote_swallows_no_other_row() -> None:
    open_quote = csv_line(BMW).replace("BAY", '"BAY', 1)
    received = read(body(BMW, open_quote, changed(Time="08:02"), changed(Time="08:03")))
    assert received.rows == 4
    assert fields(received) == [BMW, changed(Time="08:02"), changed(Time="08:03")]
    assert received.malformed[2][0] == open_quote


def test_a_quoted_line_break_costs_its_own_row_alone() -> None:
    received = read(body(BMW, changed(SecurityDesc="BAY.\nMOTOREN"), changed(Time="08:02")))
    assert fields(received) == [BMW, changed(Time="08:02")]
    assert received.rows == 2 + len(received.malformed)


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
@pytest.mark.parametrize("broken", [(), (BMW[:-1],)], ids=["sound", "with a ragged row"])
def test_only_line_feeds_end_a_row(separator: str, broken: tuple) -> None:
    row = changed(SecurityDesc=f"BAY.{separator}MOTOREN")
    received = read(body(row, *broken))
    assert (received.rows, fields(received)) == (1 + len(broken), [row])


def test_a_blank_line_is_no_row() -> None:
    received = read(body(BMW, "", changed(Time="08:02"), ""))
    assert (received.rows, fields(received)) == (2, [BMW, changed(Time="08:02")])
    assert received.text([2]) == [csv_line(changed(Time="08:02"))]


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n", b"\xef\xbb\xbf", b"   \n"])
def test_an_empty_file_is_damaged(data: bytes) -> None:
    with pytest.raises(CorruptObject, match="is empty"):
        read(data)


@pytest.mark.parametrize("data", [body(), body().strip(), body(end="\r\n"), body() + b"\n\n"])
def test_a_header_alone_means_that_nothing_traded(data: bytes) -> None:
    assert read(data).rows == 0
    assert read(gzip.compress(data), name=NAME + ".gz").rows == 0


def test_a_missing_column_is_named_with_the_file_and_the_mend() -> None:
    with pytest.raises(CorruptObject) as damage:
        read(body(header=",".join(HEADER).replace("EndPrice", "Last")))
    assert all(
        word in str(damage.value) for word in (NAME, "EndPrice", "Last", "`columns` of the product bars", "defs.yaml")
    )


def test_columns_are_found_by_name_wherever_they_stand() -> None:
    order = [13, *range(13)]
    row, header = ([values[place] for place in order] for values in (BMW, HEADER))
    received = read(body((*row, "more"), header=",".join((*header, "Extra"))))
    assert fields(received) == [BMW]


@pytest.mark.parametrize(
    "data",
    [
        body(BMW, header=",".join(HEADER) + ","),
        body((*BMW, ""), header=",".join(HEADER) + ","),
        body((*BMW, "1"), header=",".join((*HEADER, "NumberOfTrades"))),
        body((*BMW, "1"), (BMW), header=",".join((*HEADER, "NumberOfTrades"))),
        body(BMW).replace(b"\n", b"\r"),
        b"x" * 200_000,
        b'"' + b"x" * 200_000,
        b"\x00" * 300,
        body(BMW).decode().encode("utf-16"),
        gzip.compress(body(BMW)),
        b"PAR1" + bytes(range(256)) * 4,
        b'{"Note": "Thank you for using our service"}',
    ],
)
def test_what_is_no_bar_file_is_damaged_or_read_row_by_row(data: bytes) -> None:
    try:
        received = read(data)
    except CorruptObject as damage:
        assert NAME in str(damage)  # noqa: PT017
    else:
        assert received.rows == len(fields(received)) + len(received.malformed)


def test_a_column_that_stands_twice_is_damage() -> None:
    with pytest.raises(CorruptObject, match="NumberOfTrades"):
        read(body((*BMW, "7"), header=",".join((*HEADER, "NumberOfTrades"))))


WHOLE = gzip.compress(body(*(changed(Time=f"08:{minute:02}") for minute in range(40))), mtime=0)


@given(end=st.integers(0, len(WHOLE) - 1))
def test_a_cut_gzip_file_is_never_half_loaded(end: int) -> None:
    with pytest.raises(CorruptObject, match=NAME):
        read(WHOLE[:end], name=NAME + ".gz")


@given(place=st.integers(0, len(WHOLE) - 1), value=st.integers(0, 255))
def test_a_gzip_file_with_a_wrong_byte_is_refused_or_says_the_same(place: int, value: int) -> None:
    data = WHOLE[:place] + bytes([value]) + WHOLE[place + 1 :]
    try:
        received = read(data, name=NAME + ".gz")
    except CorruptObject:
        return
    assert fields(received) == fields(read(WHOLE, name=NAME + ".gz"))


@given(data=st.binary(max_size=300))
@example(data=b'\n"')
def test_any_bytes_below_a_header_are_received_row_by_row(data: bytes) -> None:
    received = read(body() + data)
    assert received.rows == len(fields(received)) + len(received.malformed)
    numbers = [] if received.frame is None else received.frame["row_number"].to_list()
    assert sorted([*numbers, *received.malformed]) == list(range(1, received.rows + 1))
    lines = [line for line in data.split(b"\n") if line.strip()]
    assert received.rows == len(lines)


text = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\r\n\x00"), max_size=6)


@given(
    rows=st.lists(st.tuples(*[text] * len(HEADER)).filter(lambda row: any(cell.strip() for cell in row)), max_size=4),
    ragged=st.booleans(),
)
def test_any_text_comes_back_as_it_was_written(rows: list[tuple[str, ...]], ragged: bool) -> None:
    """Fields with quotes, commas and blanks, read in one go or, beside a ragged row, line by line."""
    received = read(body(*rows, *([BMW[:-1]] if ragged else [])))
    assert received.rows == len(rows) + ragged
    assert fields(received) == [tuple(value or None for value in row) for row in rows]


@pytest.mark.parametrize("delimiter", [",", "\t"])
@pytest.mark.parametrize(
    ("line", "is_refused"),
    [
        ('x,"",2', False),
        ("x,1,2,", True),
        ('x,1,2,""', True),
        ('"x"y,1,2', True),
        ('"""x"" y",1,2', False),
        ('""x"",1,2', True),
        ("\ufeffx,1,2", False),
        (",,", False),
    ],
    ids=[
        "quoted empty",
        "trailing delimiter",
        "trailing empty",
        "after quote",
        "escaped",
        "doubled",
        "BOM",
        "all empty",
    ],
)
def test_a_row_is_read_the_same_whatever_stands_beside_it(line: str, is_refused: bool, delimiter: str) -> None:
    product = xetra(delimiter=delimiter, columns={"isin": "a", "volume": "b", "close": "c"}, nulls=())
    product = product.model_copy(update={"time": product.time.model_copy(update={"columns": ("a",)})})

    def read_with(*others: str) -> tuple[int, list[tuple[str | None, ...]], dict[int, tuple[str, str]]]:
        received = read("\n".join(["a,b,c", line, "y,3,4", *others]).replace(",", delimiter).encode(), product)
        rows = [] if received.frame is None else received.frame.select("row_number", "a", "b", "c").rows()
        return received.rows, rows, received.malformed

    count, rows, malformed = read_with()
    beside, rows_beside, malformed_beside = read_with("ragged")
    assert (beside, rows_beside) == (count + 1, rows)
    assert malformed_beside.keys() == {*malformed, 3}
    assert (1 in malformed) == is_refused


@pytest.mark.parametrize("broken", [(), (BMW[:-1],)], ids=["sound", "with a ragged row"])
@pytest.mark.parametrize("nulls", [("NA", "-"), ("", "NA", "-")])
def test_the_sources_texts_for_no_value_are_null_and_so_is_an_empty_field(broken: tuple, nulls: tuple) -> None:
    rows = (changed(Mnemonic="NA"), changed(Mnemonic="-", Time="08:01"), changed(Mnemonic="", Time="08:02"))
    received = read(body(*rows, *broken), xetra(nulls=nulls))
    assert received.frame["Mnemonic"].to_list() == [None, None, None]


UMLAUTS = changed(SecurityDesc="MÜNCHENER RÜCK €")


@pytest.mark.parametrize(
    "encoding", ["utf-8", "cp1252", "iso8859-15", "utf-16", "utf-16-be", "utf-32", "cp1140", "utf-7"]
)
@pytest.mark.parametrize("broken", [(), (BMW[:-1],)], ids=["read in one go", "read line by line"])
def test_text_is_read_in_its_declared_encoding(encoding: str, broken: tuple) -> None:
    data = body(UMLAUTS, *broken).decode().encode(encoding)
    received = read(data, xetra(encoding=encoding))
    assert fields(received) == [UMLAUTS]
    assert received.text([1]) == [csv_line(UMLAUTS)]


@pytest.mark.parametrize(
    ("declared", "line"),
    [("utf-8", "MÜNCHEN".encode("latin-1")), ("cp1252", b"M\x81NCHEN"), ("ascii", "MÜNCHEN".encode())],
)
def test_bytes_that_are_not_of_the_encoding_are_refused_and_shown(declared: str, line: bytes) -> None:
    data = body(BMW, changed(SecurityDesc="@")).replace(b"@", line)
    received = read(data, xetra(encoding=declared))
    assert (received.rows, fields(received)) == (2, [BMW])
    text, reason = received.malformed[2]
    assert reason.startswith(f"the row is not {declared}; set `encoding` of the product bars")
    assert "\ufffd" not in text
    assert "\\x" in text


def test_a_header_that_is_not_of_the_encoding_names_the_entry_that_fixes_it() -> None:
    header = ",".join(HEADER).replace("SecurityDesc", "Bezeichnung für Leser").encode("latin-1")
    with pytest.raises(CorruptObject, match=r"not utf-8.*set `encoding` of the product bars"):
        read(header + b"\n")


@pytest.mark.parametrize("encoding", ["klingon", "base64", "rot13", ""])
def test_what_is_no_encoding_of_text_is_an_error_of_the_yaml(encoding: str) -> None:
    product = source_named("xetra").config.bars.model_dump(exclude_defaults=True)
    with pytest.raises(ValueError, match="encoding"):
        Bars.model_validate(product | {"encoding": encoding})


def test_utf_8_with_a_mark_is_utf_8() -> None:
    product = source_named("xetra").config.bars.model_dump(exclude_defaults=True)
    assert Bars.model_validate(product | {"encoding": "UTF-8-sig"}).encoding == "utf-8"


def values(received: Received, product: Product | None = None) -> dict[str, object]:
    assert received.frame is not None
    return typed(received.frame, changed_source(source_named("xetra"), bars=product or xetra()).bars).row(0, named=True)


def test_a_row_is_typed_as_raw_bars_says() -> None:
    row = values(read(body(BMW)))
    assert row["start_at"] == datetime(2017, 6, 29, 8, tzinfo=UTC)
    assert row["end_at"] == datetime(2017, 6, 29, 8, 1, tzinfo=UTC)
    prices = [row[name] for name in ("open", "high", "low", "close")]
    assert prices == [83.29, 83.31, 83.28, 83.3]
    assert (row["volume"], row["trades"], row["vwap"], row["vendor_revision"]) == (1204, 11, None, None)
    assert (row["instrument_id"], row["vendor_id"], row["interval"]) == ("DE0005190003", "2504446", "1min")


@pytest.mark.parametrize(
    ("written", "volume"),
    [("1200.0", 1200.0), ("1.2e3", 1200.0), ("1200.5", 1200.5), ("n/a", None), ("1,200", None), ("", None),
     ("9007199254740992", 2.0**53), ("0", 0.0)],
)  # fmt: skip
def test_a_volume_may_be_fractional(written: str, volume: float | None) -> None:
    assert values(read(body(changed(TradedVolume=written))))["volume"] == volume


@pytest.mark.parametrize(
    ("written", "trades"),
    [("1200.0", 1200), ("1.2e3", 1200), ("1200.5", None), ("n/a", None), ("1,200", None), ("inf", None),
     ("9223372036854775808", None), ("9223372036854775807", 9223372036854775807), ("", None), ("0", 0)],
)  # fmt: skip
def test_a_number_of_trades_is_whole_or_nothing(written: str, trades: int | None) -> None:
    assert values(read(body(changed(NumberOfTrades=written))))["trades"] == trades


@pytest.mark.parametrize(
    ("written", "price"),
    [("83,29", 83.29), ("1.234,5", None), ("1.234", None), ("83", 83.0), ("-0,5", -0.5), ("1,2,3", None)],
)
def test_a_decimal_comma_makes_a_point_no_decimal_sign(written: str, price: float | None) -> None:
    product = xetra(decimal=",", delimiter=";")
    row = [value.replace(".", ",") for value in changed(StartPrice="@")]
    data = body(";".join(row).replace("@", written), header=";".join(HEADER))
    assert values(read(data, product), product)["open"] == price


def test_a_thousands_point_is_no_quantity() -> None:
    product = xetra(decimal=",", delimiter=";")
    data = body(";".join(changed(TradedVolume="1.000")), header=";".join(HEADER))
    assert values(read(data, product), product)["volume"] is None


EUREX = """
source: eurex
description: Eurex one-minute bars of futures and options
venue: {mic: XEUR, name: Eurex, country: DE, time_zone: Europe/Berlin, currency: EUR}
calendar: XEUR
first_session: 2017-06-19
bars:
  objects:
    pattern: (?P<date>\\d{8})_BINS_XEUR(?P<hour>\\d{2})\\.csv
    date_format: "%Y%m%d"
    holds: hour
  format: csv
  nulls: ["", "-"]
  time: {columns: [Date, Time], format: "%Y%m%d %H:%M", zone: UTC, label: start}
  columns: {instrument_id: SecurityID, symbol: MaturityDate, name: Underlying, instrument_type: SecurityType,
    currency: Currency, open: StartPrice, high: MaxPrice, low: MinPrice, close: EndPrice,
    volume: NumberOfContracts, trades: NumberOfTrades}
negative_prices: true
"""
EUREX_HEADER = (
    "MarketSegment,Underlying,Currency,SecurityType,MaturityDate,StrikePrice,PutCall,MLEG,ContractGenerationNumber,"
    "SecurityID,Date,Time,StartPrice,MaxPrice,MinPrice,EndPrice,NumberOfContracts,NumberOfTrades"
)
SPREAD = "FGBL,DE0001135275,EUR,FUT,20170907,,,S,0,72057606922829,20170629,08:00,-0.05,0,-0.07,-0.06,12,3"


def test_a_derivatives_venue_is_a_matter_of_yaml() -> None:
    source = resolved(SourceConfig.model_validate(yaml.safe_load(EUREX)))
    product = source.config.bars
    row = values(read(body(SPREAD, header=EUREX_HEADER), product, name="20170629_BINS_XEUR08.csv"), product)
    assert row["start_at"] == datetime(2017, 6, 29, 8, tzinfo=UTC)
    assert [row[name] for name in ("open", "high", "low", "close")] == [-0.05, 0.0, -0.07, -0.06]
    assert (row["instrument_id"], row["volume"], row["trades"], row["symbol"]) == ("72057606922829", 12, 3, "20170907")
    day = date(2017, 6, 29)
    assert source.bars.parse_name("20170629_BINS_XEUR08.csv") == ObjectName(
        day, day, 8, {"date": "20170629", "hour": "08"}
    )
    assert "prices_positive" not in source.contract("raw_bars").predicates
    assert "instrument_id_present" in source.contract("raw_bars").predicates


def parquet(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out)
    return out.getvalue()


def frame_of(*rows: tuple[str, ...]) -> pl.DataFrame:
    texts = pl.DataFrame(rows, schema=list(HEADER), orient="row")
    return texts.with_columns(
        pl.col("StartPrice", "MaxPrice", "MinPrice", "EndPrice").cast(pl.Float64),
        pl.col("TradedVolume", "NumberOfTrades", "SecurityID").cast(pl.Int64),
    )


def test_parquet_objects_say_the_same_as_csv() -> None:
    product = xetra(format="parquet")
    received = read(parquet(frame_of(BMW, changed(ISIN=isin("DE000SIM000")))), product, name="x.parquet")
    assert received.rows == 2
    assert values(received, product) == values(read(body(BMW)))
    assert "BAY.MOTOREN" in received.text([1])[0]
    assert read(parquet(frame_of(BMW).clear()), product).rows == 0


def test_parquet_objects_know_the_sources_texts_for_no_value() -> None:
    product = xetra(format="parquet", nulls=("", "NA"))
    assert values(read(parquet(frame_of(changed(Mnemonic="NA"))), product), product)["symbol"] is None


@pytest.mark.parametrize("length", [20_000, 2_000_000])
def test_a_parquet_object_whose_text_repeats_without_end_is_read_in_bounded_blocks(length: int) -> None:
    """Some kilobytes that unpack to two, or to two hundred, gigabytes."""
    count = 100_000
    row = changed(SecurityDesc="x" * length)
    texts = {name: pl.Series([value], dtype=pl.Categorical) for name, value in zip(HEADER, row, strict=True)}
    data = parquet(pl.DataFrame({name: series.gather([0] * count) for name, series in texts.items()}))
    assert len(data) < 200_000
    blocks = iter(BlockReader(NAME, io.BytesIO(data), xetra(format="parquet"), 2**40))
    if length > 1_000_000:
        with pytest.raises(CorruptObject, match="a cell has 2,000,000 bytes"):
            next(blocks)
    else:
        first, second = next(blocks), next(blocks)
        assert max(first.size, second.size) < 50_000_000
        assert second.before == first.rows
        assert fields(second)[0] == row


def test_a_parquet_object_with_a_column_of_lists_is_damaged() -> None:
    frame = frame_of(BMW).with_columns(pl.struct("Mnemonic", "ISIN").implode().over("Date").alias("Mnemonic"))
    with pytest.raises(CorruptObject, match=NAME):
        read(parquet(frame), xetra(format="parquet"))


PARQUET = parquet(frame_of(*(changed(Time=f"08:{minute:02}") for minute in range(40))))


@given(end=st.integers(0, len(PARQUET) - 1))
def test_a_cut_parquet_object_is_damaged(end: int) -> None:
    with pytest.raises(CorruptObject, match=NAME):
        read(PARQUET[:end], xetra(format="parquet"))


@given(place=st.integers(0, len(PARQUET) - 1), value=st.integers(0, 255))
def test_a_wrong_byte_in_a_parquet_object_is_no_accident(place: int, value: int) -> None:
    try:
        read(PARQUET[:place] + bytes([value]) + PARQUET[place + 1 :], xetra(format="parquet"))
    except CorruptObject as damage:
        assert NAME in str(damage)  # noqa: PT017


@given(line=st.text(st.sampled_from('ab ,;"\r\x0b\x1c\u2028\x00é'), min_size=1), delimiter=st.sampled_from(",;"))
def test_a_line_is_split_as_the_csv_module_does(line: str, delimiter: str) -> None:
    """Lines without quotes and line breaks are split without it."""
    told = list(_records(line.encode(), xetra(delimiter=delimiter)))
    text = line.removesuffix("\r")
    if not line.encode().strip():
        assert told == []
        return
    try:
        fields: list[str] | str = next(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error:
        fields = "a quote or a line break in the row makes its fields uncertain"
    assert told == [(text, fields)]
