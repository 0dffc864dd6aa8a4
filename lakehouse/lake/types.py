"""Column types: a contract writes `decimal(18,4)` or `list<struct<part date, rows bigint>>`, and this module parses it
into one `ColumnType` that names the same type in Arrow, Delta, DuckDB and Polars.

`json` is stored as text. What a type asks of a value beyond its storage (finite numbers, valid JSON) is a DuckDB
predicate here; presence and the rules of a table belong to `contract`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from deltalake.schema import DataType

MAX_PRECISION = 38
"""Digits of a decimal that Arrow, DuckDB, Polars and Delta can all hold."""
SIMPLE_TYPES = ("string", "date", "timestamp", "double", "bigint", "boolean", "json", "binary")
SYNTAX = f"{', '.join(SIMPLE_TYPES)}, decimal(p,s), list<type> or struct<name type, ...>"

_DUCKDB = {
    "string": "VARCHAR",
    "date": "DATE",
    "timestamp": "TIMESTAMPTZ",
    "double": "DOUBLE",
    "bigint": "BIGINT",
    "boolean": "BOOLEAN",
    "json": "VARCHAR",
    "binary": "BLOB",
}
_DELTA = {"bigint": "long", "json": "string"}
"""Where Delta has another word for a simple type."""
_TOKEN = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*|[0-9]+|[<>(),])")
_NAME = re.compile(r"[A-Za-z_]")


@dataclass(frozen=True)
class ColumnType:
    """A column's type; `str()` is its text in the contract. Made by `parse_type`."""

    kind: str
    """The word that the text begins with: `string`, `decimal`, `list`, ..."""
    precision: int = 0
    """Of a decimal: how many digits it has at most."""
    scale: int = 0
    """Of a decimal: how many of them follow the point."""
    element: ColumnType | None = None
    """Of a list."""
    fields: tuple[tuple[str, ColumnType], ...] = ()
    """Of a struct."""

    def __str__(self) -> str:
        if self.kind == "decimal":
            return f"decimal({self.precision},{self.scale})"
        if self.kind == "list":
            return f"list<{self.element}>"
        if self.kind == "struct":
            return f"struct<{', '.join(f'{name} {kind}' for name, kind in self.fields)}>"
        return self.kind

    @property
    def is_simple(self) -> bool:
        """Whether it is neither a list nor a struct."""
        return self.kind not in ("list", "struct")

    @cached_property
    def arrow(self) -> pa.DataType:
        import pyarrow as pa

        if self.kind == "decimal":
            return pa.decimal128(self.precision, self.scale)
        if self.element is not None:
            return pa.list_(self.element.arrow)
        if self.fields:
            return pa.struct([(name, kind.arrow) for name, kind in self.fields])
        return {
            "string": pa.string(),
            "date": pa.date32(),
            "timestamp": pa.timestamp("us", tz="UTC"),
            "double": pa.float64(),
            "bigint": pa.int64(),
            "boolean": pa.bool_(),
            "json": pa.string(),
            "binary": pa.binary(),
        }[self.kind]

    @cached_property
    def delta(self) -> str:
        """What `delta_text` says of a column that is stored with this type."""
        if self.element is not None:
            return f"array<{self.element.delta}>"
        if self.fields:
            return f"struct<{', '.join(f'{name} {kind.delta}' for name, kind in self.fields)}>"
        return _DELTA.get(self.kind, str(self))

    @cached_property
    def duckdb(self) -> str:
        if self.kind == "decimal":
            return f"DECIMAL({self.precision}, {self.scale})"
        if self.element is not None:
            return f"{self.element.duckdb}[]"
        if self.fields:
            return f"STRUCT({', '.join(f'{_quoted(name)} {kind.duckdb}' for name, kind in self.fields)})"
        return _DUCKDB[self.kind]

    @cached_property
    def polars(self) -> pl.DataType:
        import polars as pl

        if self.kind == "decimal":
            return pl.Decimal(self.precision, self.scale)
        if self.element is not None:
            return pl.List(self.element.polars)
        if self.fields:
            return pl.Struct({name: kind.polars for name, kind in self.fields})
        return {
            "string": pl.String(),
            "date": pl.Date(),
            "timestamp": pl.Datetime("us", "UTC"),
            "double": pl.Float64(),
            "bigint": pl.Int64(),
            "boolean": pl.Boolean(),
            "json": pl.String(),
            "binary": pl.Binary(),
        }[self.kind]

    def predicates(self, value: str, depth: int = 0) -> dict[str, tuple[str, str]]:
        """Rule name -> (DuckDB predicate, what a value is that breaks it), for the SQL expression `value`; of a list or
        struct for all that it holds.
        """
        if self.kind == "double":
            return {"finite": (f"isfinite({value})", "not finite")}
        if self.kind == "json":
            return {"json": (_is_json(value), "not valid JSON")}
        if self.element is not None:
            each = f"element_{depth}"
            return {
                name: (
                    f"coalesce(list_bool_and(list_transform({value}, lambda {each}: coalesce({holds}, true))), true)",
                    reason,
                )
                for name, (holds, reason) in self.element.predicates(each, depth + 1).items()
            }
        found: dict[str, tuple[str, str]] = {}
        for field, kind in self.fields:
            for name, (holds, reason) in kind.predicates(f"{value}.{_quoted(field)}", depth).items():
                both = f"{found[name][0]} AND " if name in found else ""
                found[name] = (f"{both}coalesce({holds}, true)", reason)
        return found


def delta_text(stored: DataType) -> str:
    """A stored type in Delta's words: `long`, `decimal(18,4)`, `array<struct<part date, rows long>>`."""
    from deltalake.schema import ArrayType, MapType, PrimitiveType, StructType

    if isinstance(stored, PrimitiveType):
        return stored.type
    if isinstance(stored, ArrayType):
        return f"array<{delta_text(stored.element_type)}>"
    if isinstance(stored, StructType):
        return f"struct<{', '.join(f'{field.name} {delta_text(field.type)}' for field in stored.fields)}>"
    if isinstance(stored, MapType):
        return f"map<{delta_text(stored.key_type)}, {delta_text(stored.value_type)}>"
    return "variant"


def name_of(stored: str) -> str:
    """The simple type of a stored column, as a contract writes it; Delta's words for any other type."""
    return next((name for name in SIMPLE_TYPES if parse_type(name).delta == stored), stored)


@cache
def parse_type(text: str) -> ColumnType:
    """The type that a contract's text names.

    Raises:
        ValueError: it names none; the message says what can be written.
    """
    tokens = list(_tokens(text))
    found, rest = _parsed(tokens, text)
    if rest:
        raise _not_a_type(text)
    return found


def _tokens(text: str) -> Iterator[str]:
    at = 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise _not_a_type(text)
        yield match[1]
        at = match.end()


def _parsed(tokens: list[str], text: str) -> tuple[ColumnType, list[str]]:
    """The type that the tokens begin with, and the tokens after it."""
    match tokens:
        case ["decimal", "(", precision, ",", scale, ")", *rest] if precision.isdigit() and scale.isdigit():
            if not 0 <= int(scale) <= int(precision) or not 1 <= int(precision) <= MAX_PRECISION:
                raise ValueError(
                    f"'{text}': a decimal has 1 to {MAX_PRECISION} digits, and no more than those after the point"
                )
            return ColumnType("decimal", int(precision), int(scale)), rest
        case ["list", "<", *rest]:
            element, rest = _parsed(rest, text)
            if rest[:1] != [">"]:
                raise _not_a_type(text)
            return ColumnType("list", element=element), rest[1:]
        case ["struct", "<", *rest]:
            return _parsed_struct(rest, text)
        case [kind, *rest] if kind in SIMPLE_TYPES:
            return ColumnType(kind), rest
    raise _not_a_type(text)


def _parsed_struct(rest: list[str], text: str) -> tuple[ColumnType, list[str]]:
    fields: list[tuple[str, ColumnType]] = []
    while True:
        if not rest or not _NAME.match(rest[0]):
            raise _not_a_type(text)
        name = rest[0]
        kind, rest = _parsed(rest[1:], text)
        # DuckDB compares names without their case.
        if name.lower() in {known.lower() for known, _ in fields}:
            raise ValueError(f"'{text}': the struct has two fields {name}; rename one")
        fields.append((name, kind))
        if rest[:1] == [">"]:
            return ColumnType("struct", fields=tuple(fields)), rest[1:]
        if rest[:1] != [","]:
            raise _not_a_type(text)
        rest = rest[1:]


def _not_a_type(text: str) -> ValueError:
    return ValueError(f"'{text}' is not a type; write {SYNTAX}")


def _quoted(name: str) -> str:
    return f'"{name}"'


def _is_json(value: str) -> str:
    """DuckDB's parser also takes NaN, Infinity and a comma after the last element, which JSON doesn't know: none may be
    outside a string.
    """
    lenient = r"'(?i)nan|inf|,\s*[\]}]'"
    outside_strings = rf"""regexp_replace({value}, '"(\\.|[^"\\])*"', '', 'g')"""
    return (
        f"(json_valid({value}) AND (NOT regexp_matches({value}, {lenient}) "
        f"OR NOT regexp_matches({outside_strings}, {lenient})))"
    )
