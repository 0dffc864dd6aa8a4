"""Objects that aren't what their name or YAML says: read where they can be, or refused with cause and fix, without any
binary in the message.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable

import polars as pl
import pytest

from assets_tests.support.objects import read_object
from assets_tests.support.reference import HEADER, csv_line
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars.products import Product
from lakehouse.ingest.unpacked import CorruptObject

NAME = "2017-06-29/2017-06-29_BINS_XETR08.csv"
ROW = ("DE0005190003", "BMW", "MÜNCHENER, RÜCK", "Common stock", "EUR", "2504446", "2017-06-29", "08:00",
       "83.29", "83.31", "83.28", "83.3", "1204", "11")  # fmt: skip
TEXT = f"{','.join(HEADER)}\n{csv_line(ROW)}\n{csv_line(ROW)}\n"
LARGE = f"{','.join(HEADER)}\n" + f"{csv_line(ROW)}\n" * 3_000


def product(**entries: object) -> Product:
    return source_named("xetra").config.bars.model_copy(update=entries)


def zipped(*names: str, data: bytes = TEXT.encode()) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in names:
            archive.writestr(name, data)
    return packed.getvalue()


def parquet(frame: pl.DataFrame) -> bytes:
    packed = io.BytesIO()
    frame.write_parquet(packed)
    return packed.getvalue()


READ: dict[str, tuple[Callable[[str], bytes], dict[str, object]]] = {
    "gzip": (lambda text: gzip.compress(text.encode()), {}),
    "zip": (lambda text: zipped("a.csv", data=text.encode()), {}),
    "gzip for a zip": (lambda text: gzip.compress(text.encode()), {"format": "csv.zip"}),
    "zip for a gzip": (lambda text: zipped("a.csv", data=text.encode()), {"format": "csv.gz"}),
    "gzip of UTF-16": (lambda text: gzip.compress(text.encode("utf-16")), {}),
    "UTF-16": (lambda text: text.encode("utf-16"), {}),
    "UTF-16 for another encoding": (lambda text: text.encode("utf-16"), {"encoding": "cp1252"}),
    "UTF-16 without a mark": (lambda text: text.encode("utf-16-le"), {"encoding": "utf-16-le"}),
    "UTF-16 with its mark": (lambda text: ("\ufeff" + text).encode("utf-16-be"), {"encoding": "utf-16-be"}),
    "UTF-32": (lambda text: text.encode("utf-32"), {}),
    "carriage returns": (lambda text: text.replace("\n", "\r").encode(), {}),
    "carriage returns in UTF-16": (lambda text: text.replace("\n", "\r").encode("utf-16"), {}),
    "Windows": (lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"), {}),
    "blank first line": (lambda text: b"\r\n" + text.encode(), {}),
    "sep=": (lambda text: b"sep=,\r\n" + text.encode(), {}),
    "quoted sep=": (lambda text: b'\xef\xbb\xbf"SEP=,"\n\n' + text.encode(), {}),
    "sep= with carriage returns": (lambda text: b"sep=,\r" + text.replace("\n", "\r").encode(), {}),
}


@pytest.mark.parametrize("text", [TEXT, LARGE], ids=["small", "of several pieces"])
@pytest.mark.parametrize("kind", READ)
def test_a_file_that_can_be_read_is_read(text: str, kind: str) -> None:
    written, entries = READ[kind]
    received = read_object(NAME, written(text), product(**entries))
    rows = text.count("\n") - 1
    assert (received.rows, received.malformed) == (rows, {})
    assert received.frame.select(HEADER).unique().rows() == [ROW]
    assert received.frame["row_number"].to_list() == list(range(1, rows + 1))
    assert received.text([rows]) == [csv_line(ROW)]


CUT = {"format": "parquet"}
JSONL = {"format": "jsonl"}
ERROR = b"<Error><Code>NoSuchKey</Code></Error>"
OFFICE = zipped("[Content_Types].xml", "xl/workbook.xml")
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500)
MANY = b",".join(b"%d" % number for number in range(500))


@pytest.mark.parametrize(
    ("data", "entries", "words"),
    [
        (b"sep=;\n" + TEXT.encode(), {}, "';' divides its columns, and `delimiter` of the product bars is ','"),
        (TEXT.replace(",", ";").encode(), {}, "divided by ';', and `delimiter` of the product bars is ','"),
        (TEXT.encode(), {"delimiter": "\t"}, "its columns are divided by ',', and `delimiter`"),
        (TEXT.encode("utf-16-le"), {}, "set `encoding: utf-16-le` of the product bars"),
        (TEXT.encode("utf-16-be"), {}, "set `encoding: utf-16-be` of the product bars"),
        (TEXT.encode("utf-16")[:-1], {}, "is not utf-16 to its end"),
        (bz2.compress(TEXT.encode()), {}, "is packed with bzip2, where the product bars is csv; have it sent unpa"),
        (lzma.compress(TEXT.encode()), {}, "is packed with xz"),
        (b"\x28\xb5\x2f\xfd\x04\x00", {}, "is packed with Zstandard"),
        (gzip.compress(gzip.compress(TEXT.encode(), mtime=0), mtime=0), {}, "is packed with gzip twice"),
        (zipped("a.csv", "b.csv"), {}, "holds 2 files where one CSV is expected"),
        (OFFICE, {}, "is an Excel workbook or another Office document; have it exported as CSV"),
        (OLE, {}, "is an Excel or other Office document"),
        (b"%PDF-1.7\n%\xe2\xe3", {}, "is a PDF document"),
        (b"\n <!DOCTYPE html>\n<title>403 Forbidden</title>", {}, "is an HTML page ('403 Forbidden')"),
        (b"<html><h1>Bad gateway\x1b[2J</h1></html>", {}, "is an HTML page ('Bad gateway"),
        (b"<?xml version='1.0'?>" + ERROR, {}, "is an XML document ('NoSuchKey')"),
        (ERROR, {}, "it is XML or HTML (<Error><Code>NoSuchKey"),
        (b'{"Note": "Thank you for using our service"}', {}, 'it is JSON ({"Note": "Thank you'),
        (b'[{"a": 1}]', JSONL, "is a JSON array, where jsonl has an object per line"),
        (b"<html></html>", JSONL, "is an HTML page, where the product bars is jsonl"),
        (parquet(pl.DataFrame({"ISIN": ["x"]})), {}, "is a Parquet file, where the product bars is csv; set `format"),
        (TEXT.encode(), CUT, "is no readable Parquet file but something else, which begins with 'ISIN,"),
        (gzip.compress(b"x", mtime=0), CUT, "is packed as gzip, where a Parquet file is expected"),
        (b"", CUT, "is no readable Parquet file but empty"),
        (b"PAR1\x15\x04", CUT, "is a cut or damaged Parquet file"),
        (b"", {}, "is empty; even an hour without trades has a header"),
        (b"sep=,\n", {}, "is empty; even an hour"),
        (b"", {"header": ("ISIN", "Date")}, "is empty; it has no row"),
        (b"\x00\x01\x7f\x1b[2J,bcdefghijkl\n", {}, "its header has \\x00\\x01\\x7f"),
        (b"x" * 300 + b",b\n1,2\n", {}, f"its header has {'x' * 60}..., b. Have it"),
        (MANY, {}, "39, ... (500 in all)"),
    ],
)
def test_a_file_that_cannot_be_read_says_what_it_is(data: bytes, entries: dict[str, object], words: str) -> None:
    with pytest.raises(CorruptObject) as refused:
        read_object(NAME, data, product(**entries))
    message = str(refused.value)
    assert words in message
    assert message.startswith(NAME)
    assert message.isprintable()
    assert len(message) < 700


def test_a_header_in_angle_brackets_is_a_header() -> None:
    """As charting programs export it."""
    columns = {name: f"<{column}>" for name, column in product().columns.items()}
    time = product().time.model_copy(update={"columns": ("<Date>", "<Time>")})
    header = ",".join(f"<{column}>" for column in HEADER)
    received = read_object(NAME, TEXT.replace(",".join(HEADER), header).encode(), product(columns=columns, time=time))
    assert (received.rows, received.malformed) == (2, {})


def test_a_zero_byte_costs_its_own_row_alone() -> None:
    received = read_object(NAME, TEXT.replace("RÜCK", "R\0CK", 1).encode(), product())
    assert received.rows == 2
    assert received.frame["SecurityDesc"].to_list()[-1] == ROW[2]
