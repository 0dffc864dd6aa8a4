"""Decoding of the log's messages, built here byte by byte from PostgreSQL's description of the protocol."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta

import pytest

from lakehouse.ingest.postgres.pgoutput import (
    Begin,
    Column,
    Commit,
    MalformedMessage,
    RowChange,
    Table,
    Truncate,
    Type,
    Unchanged,
    decode,
    format_lsn,
    full_row,
    parse_lsn,
)

pytestmark = pytest.mark.unit
MOMENT = datetime(2026, 11, 29, 9, 30, 0, 123456, tzinfo=UTC)
TICKS = (MOMENT - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def row(tag: bytes, *values: str | Unchanged | None) -> bytes:
    """A row as the protocol has it."""
    found = tag + struct.pack(">h", len(values))
    for value in values:
        if value is None:
            found += b"n"
        elif isinstance(value, Unchanged):
            found += b"u"
        else:
            text = value.encode()
            found += b"t" + struct.pack(">I", len(text)) + text
    return found


def change(op: bytes, *rows: bytes) -> bytes:
    """A change of the table 77."""
    return op + struct.pack(">I", 77) + b"".join(rows)


def test_decode__begins_and_ends_a_transaction() -> None:
    assert decode(b"B" + struct.pack(">qqI", 500, TICKS, 4_000_000_000)) == Begin(500, MOMENT, 4_000_000_000)
    assert decode(b"C" + struct.pack(">bqqq", 0, 500, 548, TICKS)) == Commit(500, 548, MOMENT)


def test_decode__describes_a_table_and_a_type() -> None:
    columns = b"\1id\0" + struct.pack(">Ii", 20, -1) + "\0größe\0".encode() + struct.pack(">Ii", 1700, 1179654)
    described = b"R" + struct.pack(">I", 77) + b"bank\0account\0f" + struct.pack(">h", 2) + columns
    assert decode(described) == Table(
        77, "bank", "account", "f", (Column("id", 20, -1, True), Column("größe", 1700, 1179654, False))
    )
    assert decode(b"Y" + struct.pack(">I", 9) + b"bank\0mood\0") == Type(9, "bank", "mood")


def test_decode__changes_rows() -> None:
    assert decode(change(b"I", row(b"N", "1", None, "ä,\n"))) == RowChange("insert", 77, None, ("1", None, "ä,\n"))
    updated = decode(change(b"U", row(b"O", "1", "a"), row(b"N", "1", "")))
    assert updated == RowChange("update", 77, ("1", "a"), ("1", ""))
    assert decode(change(b"U", row(b"N", "1", "b"))) == RowChange("update", 77, None, ("1", "b"))
    assert decode(change(b"D", row(b"K", "1", None))) == RowChange("delete", 77, ("1", None), None)
    assert decode(b"T" + struct.pack(">Ib2I", 2, 1, 77, 78)) == Truncate((77, 78))


def test_decode__ignores_what_changes_no_table() -> None:
    assert decode(b"O" + struct.pack(">q", 5) + b"elsewhere\0") is None
    assert decode(b"M" + struct.pack(">bq", 0, 5) + b"prefix\0" + struct.pack(">I", 1) + b"x") is None


@pytest.mark.parametrize(
    "message",
    [b"", b"X1", b"B\0\0", change(b"I", row(b"Q", "1")), change(b"I", b"N\0\1t\0\0\0\5ab"), change(b"I", b"N\0\1x")],
)
def test_decode__refuses_what_is_not_of_the_protocol(message: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(message)


def test_full_row__takes_what_was_left_as_it_was_from_the_row_before() -> None:
    unchanged = Unchanged.VALUE
    assert full_row(RowChange("update", 77, ("1", "long"), ("2", unchanged))) == ("2", "long")
    assert full_row(RowChange("update", 77, None, ("2", unchanged))) == ("2", unchanged)
    assert full_row(RowChange("delete", 77, ("1", "long"), None)) == ("1", "long")


def test_lsn__is_a_number_and_a_text() -> None:
    assert parse_lsn("16/B374D848") == 0x16B374D848
    assert format_lsn(0x16B374D848) == "16/B374D848"
    assert format_lsn(parse_lsn("0/0")) == "0/0"
