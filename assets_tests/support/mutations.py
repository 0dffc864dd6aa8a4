"""Sixty kinds of damage that an object of rows may have, each a function from its text to the bytes that are sent.

`KINDS` names them, by what must become of the object: `rows`, it is read row by row and every row that was not touched
is kept; `failed`, it is refused as a whole; `either`, its bytes decide.
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from assets_tests.support.reference import HEADER

Mutate = Callable[[random.Random, bytes], bytes]
Outcome = Literal["rows", "failed", "either"]


@dataclass(frozen=True)
class Kind:
    """A kind of damage. `suffix` is that of the object's name."""

    mutate: Mutate
    outcome: Outcome
    suffix: str = ".csv"


def _cell(column: str, values: list[str | bytes], rng: random.Random, text: bytes) -> bytes:
    """One row has another value in a column."""
    lines = text.split(b"\n")
    number = rng.randrange(1, len(lines) - 1)
    fields = lines[number].split(b",")
    value = rng.choice(values)
    fields[HEADER.index(column)] = value if isinstance(value, bytes) else value.encode()
    lines[number] = b",".join(fields)
    return b"\n".join(lines)


def _row(change: Callable[[bytes], bytes], rng: random.Random, text: bytes) -> bytes:
    """One row is changed as a whole."""
    lines = text.split(b"\n")
    number = rng.randrange(1, len(lines) - 1)
    lines[number] = change(lines[number])
    return b"\n".join(lines)


def _header(change: Callable[[bytes], bytes], rng: random.Random, text: bytes) -> bytes:
    first, _, rest = text.partition(b"\n")
    return change(first) + b"\n" + rest


def _shuffled(rng: random.Random, text: bytes) -> bytes:
    first, *rows = text.split(b"\n")[:-1]
    rng.shuffle(rows)
    return b"\n".join([first, *rows, b""])


def _reordered(rng: random.Random, text: bytes) -> bytes:
    """All columns in another order."""
    order = list(range(len(HEADER)))
    rng.shuffle(order)
    rows = [line.split(b",") for line in text.split(b"\n")[:-1]]
    return b"".join(b",".join(row[place] for place in order) + b"\n" for row in rows)


def _flipped(count: int, first: int, rng: random.Random, data: bytes) -> bytes:
    """Some bits differ, from a byte on."""
    changed = bytearray(data)
    for _ in range(count):
        changed[rng.randrange(min(first, len(data) - 1), len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _inserted(piece: bytes, rng: random.Random, data: bytes) -> bytes:
    place = rng.randrange(len(data) // 2, len(data))
    return data[:place] + piece + data[place:]


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(1, len(data) - 1)]


def _cut_in_a_row(rng: random.Random, text: bytes) -> bytes:
    return text[: rng.randrange(text.index(b"\n") + 2, len(text) - 2)]


def _packed(change: Mutate, rng: random.Random, text: bytes) -> bytes:
    return change(rng, gzip.compress(text, mtime=0))


DATES: list[str | bytes] = ["-2017-07-07", "12017-07-07", "+12017-07-07", "0000-07-07", "-262143-01-01"]
PRICES = ("StartPrice", "MaxPrice", "MinPrice", "EndPrice")

KINDS: dict[str, Kind] = {
    "date out of Python's range": Kind(partial(_cell, "Date", DATES), "rows"),
    "date at the range's end": Kind(partial(_cell, "Date", ["0001-01-01", "9999-12-31", "1799-12-31"]), "rows"),
    "date that is none": Kind(partial(_cell, "Date", ["2017-02-30", "2017-13-01", "0", "-", "NaT"]), "rows"),
    "date of another form": Kind(partial(_cell, "Date", ["2017/07/07", "07.07.2017", "20170707"]), "rows"),
    "date in wide digits": Kind(partial(_cell, "Date", ["２０１７-０７-０７"]), "rows"),
    "date of years of digits": Kind(partial(_cell, "Date", ["9" * 25 + "-01-01"]), "rows"),
    "date of another day": Kind(partial(_cell, "Date", ["2016-07-07", "2030-01-02"]), "rows"),
    "date missing": Kind(partial(_cell, "Date", [""]), "rows"),
    "time beyond the day": Kind(partial(_cell, "Time", ["24:00", "99:99", "08:60", "-1:00"]), "rows"),
    "time that is none": Kind(partial(_cell, "Time", ["8 Uhr", "", "0800", "08:00:00", "08:00Z"]), "rows"),
    "price that is tiny": Kind(partial(_cell, "MinPrice", ["1e-320", "5e-324", "1e-13"]), "rows"),
    "price that is huge": Kind(partial(_cell, "MaxPrice", ["1e15", "1e300", "1e400", "9" * 400]), "rows"),
    "price that is not finite": Kind(partial(_cell, "EndPrice", ["nan", "inf", "-inf", "NaN", "infinity"]), "rows"),
    "price that is negative": Kind(partial(_cell, "MinPrice", ["-1", "-0.0", "0", "-1e-320"]), "rows"),
    "price that is no number": Kind(partial(_cell, "StartPrice", ["0x10", "1_000", "١٢", "1e", "", "½"]), "rows"),
    "price with blanks": Kind(partial(_cell, "StartPrice", [" 10", "10 ", "\t10"]), "rows"),
    "high below low": Kind(partial(_cell, "MaxPrice", ["0.5"]), "rows"),
    "low above high": Kind(partial(_cell, "MinPrice", ["900"]), "rows"),
    "volume beyond 64 bits": Kind(partial(_cell, "TradedVolume", ["9" * 30, str(2**63), str(-(2**63) - 1)]), "rows"),
    "volume at 64 bits": Kind(partial(_cell, "TradedVolume", [str(2**63 - 1), str(-(2**63)), "1e18"]), "rows"),
    "volume with a fraction": Kind(partial(_cell, "TradedVolume", ["1.5", "1e-3", "0.1"]), "rows"),
    "volume that is no number": Kind(partial(_cell, "TradedVolume", ["--", "²", "1 000", "NULL"]), "rows"),
    "volume that is negative": Kind(partial(_cell, "TradedVolume", ["-1", "-100"]), "rows"),
    "trades that are no number": Kind(partial(_cell, "NumberOfTrades", ["-1", "x", "1.5", "9" * 40]), "rows"),
    "identifier with a wrong digit": Kind(partial(_cell, "ISIN", ["DE0005190004", "DE000519", "de0005190003"]), "rows"),
    "identifier missing": Kind(partial(_cell, "ISIN", [""]), "rows"),
    "identifier with a NUL": Kind(partial(_cell, "ISIN", [b"DE00051\x0090003", b"\0"]), "rows"),
    "identifier that is SQL": Kind(partial(_cell, "ISIN", ["'; DROP TABLE bars; --", "$1", "{x}", "%s"]), "rows"),
    "identifier of emoji": Kind(partial(_cell, "ISIN", ["😀" * 12, "\u202eDE", "é", "\ufeff"]), "rows"),
    "identifier of 100 kB": Kind(partial(_cell, "ISIN", ["X" * 100_000]), "rows"),
    "lone surrogate": Kind(partial(_cell, "SecurityDesc", [b"\xed\xa0\x80", b"\xed\xbf\xbf"]), "rows"),
    "bytes that are not UTF-8": Kind(partial(_cell, "SecurityDesc", [b"M\xdcNCHEN", b"\xff\xfe", b"\xc3"]), "rows"),
    "currency that is none": Kind(partial(_cell, "Currency", ["EUX", "eur", "€", "GBX", ""]), "rows"),
    "name with a separator of lines": Kind(partial(_cell, "SecurityDesc", ["a\x0bb", "a\x85b", "a\u2028b"]), "rows"),
    "name with a carriage return": Kind(partial(_cell, "SecurityDesc", ["a\rb", "\r"]), "rows"),
    "name with an escape": Kind(partial(_cell, "SecurityDesc", ["\x1b[31mred", "![x](http://x)", "<b>"]), "rows"),
    "open quote": Kind(partial(_cell, "SecurityDesc", ['"open', 'a"b', '"a"b']), "rows"),
    "unquoted delimiter": Kind(partial(_cell, "SecurityDesc", ["a,b", "a,b,c"]), "rows"),
    "quoted delimiter": Kind(partial(_cell, "SecurityDesc", ['"a,b"', '"a ""b"" c"']), "rows"),
    "quoted line break": Kind(partial(_cell, "SecurityDesc", ['"a\nb"']), "rows"),
    "row without a field": Kind(partial(_row, lambda row: row.rpartition(b",")[0]), "rows"),
    "row with a field more": Kind(partial(_row, lambda row: row + b",1"), "rows"),
    "row with another delimiter": Kind(partial(_row, lambda row: row.replace(b",", b";")), "rows"),
    "row twice": Kind(partial(_row, lambda row: row + b"\n" + row), "rows"),
    "blank lines": Kind(partial(_row, lambda row: b"\n  \n\r\n" + row), "rows"),
    "row of a megabyte": Kind(partial(_row, lambda row: row + b"x" * 1_200_000), "rows"),
    "row of NULs": Kind(partial(_row, lambda row: b"\0" * 300), "rows"),
    "rows in another order": Kind(_shuffled, "rows"),
    "cut in a row": Kind(_cut_in_a_row, "rows"),
    "bits of rows flipped": Kind(partial(_flipped, 5, 200), "rows"),
    "bytes inserted": Kind(partial(_inserted, bytes(range(128, 256))), "rows"),
    "line ends of Windows": Kind(lambda _, text: text.replace(b"\n", b"\r\n"), "rows"),
    "line ends of old Macs": Kind(lambda _, text: text.replace(b"\n", b"\r"), "rows"),
    "a mark of UTF-8": Kind(lambda _, text: b"\xef\xbb\xbf" + text, "rows"),
    "UTF-16": Kind(lambda _, text: text.decode().encode("utf-16"), "rows"),
    "columns in another order": Kind(_reordered, "rows"),
    "header without a column": Kind(partial(_header, lambda line: line.replace(b"EndPrice", b"Last")), "failed"),
    "header with a column twice": Kind(partial(_header, lambda line: line.replace(b"Time", b"Date")), "failed"),
    "header missing": Kind(lambda _, text: text.partition(b"\n")[2], "failed"),
    "header alone": Kind(lambda _, text: text.partition(b"\n")[0] + b"\n", "rows"),
    "nothing": Kind(lambda *_: b"", "failed"),
    "bits of the header flipped": Kind(lambda rng, text: _flipped(2, 0, rng, text[:100]) + text[100:], "either"),
    "gzip cut": Kind(partial(_packed, _cut), "failed", ".csv.gz"),
    "gzip with bits flipped": Kind(partial(_packed, partial(_flipped, 3, 0)), "either", ".csv.gz"),
    "gzip with garbage behind": Kind(partial(_packed, lambda _, data: data + b"garbage"), "failed", ".csv.gz"),
    "gzip with zeros behind": Kind(partial(_packed, lambda _, data: data + bytes(100)), "rows", ".csv.gz"),
    "gzip in two members": Kind(
        lambda rng, text: gzip.compress(text[:300], mtime=0) + gzip.compress(text[300:], mtime=0), "rows", ".csv.gz"
    ),
    "gzip in gzip": Kind(partial(_packed, lambda _, data: gzip.compress(data)), "failed", ".csv.gz"),
    "plain under the name of gzip": Kind(lambda _, text: text, "failed", ".csv.gz"),
    "gzip under a plain name": Kind(partial(_packed, lambda _, data: data), "rows"),
}
