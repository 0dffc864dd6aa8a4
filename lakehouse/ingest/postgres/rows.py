"""Rows of a database as texts: their images, their types, and the reasons against those that break the contract.

Everything here is SQL for DuckDB. Values stay the texts that PostgreSQL gives, in the image of a change; the current
table has them typed. Both ways in, the log and a snapshot, pass through the same expressions, so that equal rows have
equal images.

Columns that the contract marks as `pii` are hashed before anything is stored, the quarantine included: HMAC-SHA-256
with the installation's key, so that equal values stay equal and nobody without the key can find out which they are.
"""

from __future__ import annotations

from collections.abc import Iterable

from lakehouse.ingest.postgres.captured import CapturedTable
from lakehouse.lake.contract import Column
from lakehouse.lake.sql import Query, Relation, literal
from lakehouse.lake.types import ColumnType

_BLOCK = 64
"""Bytes of SHA-256's block."""
_NARROW = 18
"""Digits of the widest decimal that DuckDB keeps in 64 bits."""
_FOUR_DIGITS = r"^\d{4}-"
"""Years that every reader of the lake knows; also neither infinity nor BC."""


def hashed(value: str, key: bytes) -> str:
    """The expression for the HMAC-SHA-256 of a text, in hexadecimal digits.

    Args:
        key: of at most 64 bytes.
    """
    padded = key.ljust(_BLOCK, b"\0")
    inner, outer = (bytes(byte ^ pad for byte in padded).hex() for pad in (0x36, 0x5C))
    first = f"sha256(unhex('{inner}') || encode({value}))"
    return f"sha256(unhex('{outer}') || unhex({first}))"


META = '"row meta"'
"""Column beside the table's own with what a change says of a row: a struct, so that no name of theirs can be one of
them.
"""


def images(table: CapturedTable, rows: Relation, key: bytes) -> Query:
    """The query for `META` of rows of texts, with `key` and `image` added, and `texts`: the values of the image.

    Args:
        rows: with `META` and the table's columns as texts.
    """
    values = {
        column.name: hashed(f'"{column.name}"', key) if column.pii else f'"{column.name}"' for column in table.columns
    }
    is_row = f"{META}.op <> 'truncate'"
    return Query(f"""
        SELECT struct_insert({META}, key := CASE WHEN {is_row} THEN {_json(table.contract.key)} END,
            image := CASE WHEN {is_row} THEN to_json(texts)::VARCHAR END) AS {META}, texts
        FROM (SELECT {META}, {_struct(values)} AS texts FROM {rows})
    """)


def texts_of_images(table: CapturedTable, rows: Relation) -> Relation:
    """Rows with `META`, with `texts` from their images."""
    structure = "{" + ", ".join(f'"{column.name}": "VARCHAR"' for column in table.columns) + "}"
    return Relation(f"(SELECT {META}, from_json({META}.image, {literal(structure)}) AS texts FROM {rows})")


def typed(table: CapturedTable, rows: Relation) -> Query:
    """The query for `META` and the table's columns from `texts`; a text that isn't of its column's type is NULL, and
    `untyped_<column>` true then.
    """
    columns = [f'{of_text(column.type, _member(column))} AS "{column.name}"' for column in table.columns]
    untyped = [
        f'{_member(column)} IS NOT NULL AND {of_text(column.type, _member(column))} IS NULL AS "untyped_{column.name}"'
        for column in table.columns
        if not _is_text(column)
    ]
    return Query(f"SELECT {', '.join([META, *columns, *untyped])} FROM {rows}")


def untyped_reasons(table: CapturedTable) -> dict[str, tuple[str, str]]:
    """Rule name -> predicate over the rows of `typed` and reason: a text is of its column's type."""
    return {
        f"{column.name}_typed": (f'NOT "untyped_{column.name}"', f"{column.name} is not a {column.type}")
        for column in table.columns
        if column.nullable and not _is_text(column)
    }


def of_text(kind: ColumnType, text: str) -> str:
    """The expression for a text's value of a type; NULL if it isn't of that type."""
    if kind.kind in ("string", "json"):
        return text
    if kind.kind == "binary":
        return f"unhex(substr({text}, 3))"
    value = f"TRY_CAST({text} AS {kind.duckdb})"
    if kind.kind == "decimal":
        if kind.precision > _NARROW > kind.scale:
            # DuckDB takes 8 microseconds for a text as a wide decimal, and 0.05 as a narrow one.
            value = f"coalesce(TRY_CAST({text} AS DECIMAL({_NARROW}, {kind.scale}))::{kind.duckdb}, {value})"
        # A cast would round what has more digits.
        plain = rf"^-?\d+(\.\d{{0,{kind.scale}}}0*)?$"
        return f"CASE WHEN regexp_full_match({text}, {literal(plain)}) THEN {value} END"
    if kind.kind in ("date", "timestamp"):
        known = f"regexp_matches({text}, '{_FOUR_DIGITS}') AND NOT ends_with({text}, 'BC')"
        return f"CASE WHEN {known} THEN {value} END"
    return value


def _is_text(column: Column) -> bool:
    return column.type.kind in ("string", "json", "binary")


def _member(column: Column) -> str:
    return f'texts."{column.name}"'


def _struct(values: dict[str, str]) -> str:
    return "struct_pack(" + ", ".join(f'"{name}" := {value}' for name, value in values.items()) + ")"


def _json(names: Iterable[str]) -> str:
    return f"to_json({_struct({name: f'texts.{chr(34)}{name}{chr(34)}' for name in names})})::VARCHAR"
