"""Decodes the messages of PostgreSQL's logical decoding plugin `pgoutput`, version 1 of its protocol.

Pure functions of bytes: how messages are asked for belongs to `server`, what is made of them to `capture`. The formats
are those of https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html; numbers are big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Literal

from lakehouse.errors import LakehouseError

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""PostgreSQL counts microseconds from here."""
_IGNORED = b"OM"
"""Origins of replicated transactions, and messages of `pg_logical_emit_message`."""


class MalformedMessage(LakehouseError):
    """A message isn't of version 1 of the protocol."""


class Unchanged(Enum):
    """Stands for a long value that an update left as it was, so that the log doesn't repeat it."""

    VALUE = "unchanged"


Value = str | None | Unchanged
"""A value as PostgreSQL writes it as text; None is NULL."""
Row = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """Begins a transaction. `final_lsn` is the `lsn` of its Commit."""

    final_lsn: int
    committed_at: datetime
    xid: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Ends a transaction. `end_lsn` is where the log goes on after it."""

    lsn: int
    end_lsn: int
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: the identifier and the modifier of its type (see `pg_attribute`)."""

    name: str
    type_oid: int
    type_modifier: int
    is_key: bool


@dataclass(frozen=True, slots=True)
class Table:
    """Describes a table, ahead of its first change and whenever it was altered.

    `identity` is its REPLICA IDENTITY: d (default), n (nothing), f (full) or i (index).
    """

    oid: int
    schema: str
    name: str
    identity: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Type:
    """Names a type that isn't built in."""

    oid: int
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class RowChange:
    """An inserted, updated or deleted row of a table (by its oid), with the row before where the log has it."""

    op: Literal["insert", "update", "delete"]
    table: int
    before: Row | None
    after: Row | None


@dataclass(frozen=True, slots=True)
class Truncate:
    """Empties tables (by their oids)."""

    tables: tuple[int, ...]


Message = Begin | Commit | Table | Type | RowChange | Truncate


def decode(message: bytes) -> Message | None:
    """Decodes a message; None for one that changes no table.

    Raises:
        MalformedMessage: it isn't of version 1 of the protocol.
    """
    kind = message[:1]
    try:
        if kind in b"IUD":
            return _row_change(message)
        if kind == b"B":
            final_lsn, moment, xid = struct.unpack_from(">qqI", message, 1)
            return Begin(final_lsn, _moment(moment), xid)
        if kind == b"C":
            _, lsn, end_lsn, moment = struct.unpack_from(">bqqq", message, 1)
            return Commit(lsn, end_lsn, _moment(moment))
        if kind == b"R":
            return _table(message)
        if kind == b"Y":
            (oid,) = struct.unpack_from(">I", message, 1)
            schema, at = _text(message, 5)
            return Type(oid, schema, _text(message, at)[0])
        if kind == b"T":
            count, _ = struct.unpack_from(">Ib", message, 1)
            return Truncate(struct.unpack_from(f">{count}I", message, 6))
    except (struct.error, ValueError, IndexError) as error:
        raise MalformedMessage(f"a message of kind {kind!r} of the log can't be decoded: {error}") from error
    if kind and kind in _IGNORED:
        return None
    raise MalformedMessage(
        f"the log has a message of an unknown kind {kind!r}; it must be asked for as pgoutput, proto_version 1"
    )


def full_row(change: RowChange) -> Row | None:
    """The row after a change (the row before, where it was deleted), with the values that an update left as they were.

    Without REPLICA IDENTITY FULL some of these may remain `Unchanged`.
    """
    if change.after is None or change.before is None:
        return change.after or change.before
    if Unchanged.VALUE not in change.after:
        return change.after
    return tuple(old if new is Unchanged.VALUE else new for new, old in zip(change.after, change.before, strict=True))


def parse_lsn(text: str) -> int:
    """A position in the log from PostgreSQL's text, such as 16/B374D848."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) | int(low, 16)


def format_lsn(lsn: int) -> str:
    """A position in the log as PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _text(message: bytes, at: int) -> tuple[str, int]:
    """The text that ends with the next NUL, and where the message goes on."""
    end = message.index(b"\0", at)
    return message[at:end].decode(), end + 1


def _table(message: bytes) -> Table:
    (oid,) = struct.unpack_from(">I", message, 1)
    schema, at = _text(message, 5)
    name, at = _text(message, at)
    identity, count = struct.unpack_from(">ch", message, at)
    at += 3
    columns = []
    for _ in range(count):
        column, next_at = _text(message, at + 1)
        type_oid, modifier = struct.unpack_from(">Ii", message, next_at)
        columns.append(Column(column, type_oid, modifier, bool(message[at] & 1)))
        at = next_at + 8
    # A table of the system catalogue has an empty schema.
    return Table(oid, schema or "pg_catalog", name, identity.decode(), tuple(columns))


_OPS: Mapping[str, Literal["insert", "update", "delete"]] = {"I": "insert", "U": "update", "D": "delete"}


def _row_change(message: bytes) -> RowChange:
    (oid,) = struct.unpack_from(">I", message, 1)
    rows: dict[str, Row] = {}
    at = 5
    while at < len(message):
        tag = chr(message[at])
        if tag not in "NOK":
            raise ValueError(f"a row is tagged {tag!r}")
        rows[tag], at = _row(message, at + 1)
    return RowChange(_OPS[chr(message[0])], oid, rows.get("O", rows.get("K")), rows.get("N"))


def _row(message: bytes, at: int) -> tuple[Row, int]:
    (count,) = struct.unpack_from(">h", message, at)
    at += 2
    values: list[Value] = []
    for _ in range(count):
        kind = message[at]
        at += 1
        if kind == 0x74:  # t: text
            end = at + 4 + int.from_bytes(message[at : at + 4])
            if end > len(message):
                raise ValueError("a value is cut off")
            values.append(message[at + 4 : end].decode())
            at = end
        elif kind == 0x6E:  # n: NULL
            values.append(None)
        elif kind == 0x75:  # u: unchanged
            values.append(Unchanged.VALUE)
        else:
            raise ValueError(f"a value is of kind {chr(kind)!r}")
    return tuple(values), at
