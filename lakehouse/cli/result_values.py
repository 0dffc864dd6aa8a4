"""Converts values that an output format, or the library that writes it, doesn't support to DuckDB's text.

Results are streamed in Arrow batches; an SQL expression per column sets its type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb.sqltypes
    import polars as pl
    import pyarrow as pa

BATCH_ROWS = 20_000
NESTED = {"list", "array", "struct", "map"}
_AS_TEXT = dict.fromkeys(
    ("interval", "blob", "bit", "bignum", "uhugeint", "union", "time with time zone", "time_ns", "uuid", "variant"),
    "VARCHAR",
)
"""Types without a counterpart in the formats, written as DuckDB's text."""
AS_OWN_TEXT = _AS_TEXT | dict.fromkeys(("date", "time"), "VARCHAR")
"""Also the types that Polars prints differently from DuckDB (years before 1, 24:00:00)."""
_MOMENTS = {
    **dict.fromkeys(("timestamp", "timestamp with time zone"), "%.6f"),
    **dict.fromkeys(("timestamp_s", "timestamp_ms"), "%.3f"),
    "timestamp_ns": "%.9f",
}
"""Timestamp types, with Polars' format of their fraction of a second."""
INSIDE_JSON = AS_OWN_TEXT | dict.fromkeys(_MOMENTS, "VARCHAR")
"""For members of nested values. Polars can't write infinite timestamps or those of distant years."""
IN_PARQUET = _AS_TEXT | {"timestamp_s": "TIMESTAMP"}
"""Parquet has no timestamps in seconds, and its milliseconds can't hold infinity."""


def frames(
    relation: duckdb.DuckDBPyRelation, columns: Sequence[str], moment_format: str, offset_format: str
) -> Iterator[pl.DataFrame]:
    """Yields the result as frames that Polars can write. A column with timestamps that Polars can't write (infinite, or
    outside the years 1 to 9999) becomes text: DuckDB's text for these, the given format for the others, in which `%.6f`
    stands for all digits of the type's fraction.
    """
    import polars as pl

    names = distinct_names(relation.columns)
    moments = [place for place, kind in enumerate(relation.types) if kind.id in _MOMENTS]
    projected = dict(zip(names, columns, strict=True))
    texts = dict(zip(moments, distinct_names([*names, *["text"] * len(moments)])[len(names) :], strict=True))
    for place, text in texts.items():
        value, kind = columns[place], relation.types[place].id
        compared = "TIMESTAMPTZ" if kind == "timestamp with time zone" else "TIMESTAMP"
        is_usual = (
            f"coalesce(TRY_CAST({value} AS {compared}) BETWEEN {compared} '0001-01-01 00:00:00+00' "
            f"AND {compared} '9999-12-31 23:59:59.999999+00', false)"
        )
        projected[names[place]] = f"CASE WHEN {is_usual} THEN {value} END"
        projected[text] = f"CASE WHEN NOT {is_usual} THEN {value}::VARCHAR END"
    for batch in stream(relation, projected):
        frame = pl.DataFrame(batch)
        for place, text in texts.items():
            if frame[text].null_count() < frame.height:
                kind = relation.types[place].id
                pattern = moment_format.replace("%.6f", _MOMENTS[kind])
                if kind == "timestamp with time zone":
                    pattern = pattern.replace(" ", "T") + offset_format
                usual = pl.col(names[place]).dt.to_string(pattern)
                frame = frame.with_columns(pl.coalesce(usual, text).alias(names[place]))
        yield frame.drop(texts.values())


def stream(relation: duckdb.DuckDBPyRelation, columns: Mapping[str, str]) -> pa.RecordBatchReader:
    """Streams batches of the given expressions, by name."""
    wanted = ", ".join(f"{value} AS {_quoted(name)}" for name, value in columns.items())
    return relation.project(wanted).to_arrow_reader(BATCH_ROWS)


def columns_of(relation: duckdb.DuckDBPyRelation) -> list[tuple[str, duckdb.sqltypes.DuckDBPyType]]:
    """An expression and the type of each column; column names may repeat."""
    return [(f"#{number}", kind) for number, kind in enumerate(relation.types, start=1)]


def cast(value: str, kind: duckdb.sqltypes.DuckDBPyType, types: Mapping[str, str], *, keys: str | None = None) -> str:
    """An expression that casts a value by `types`, also inside nested values; `keys` is the type for maps' keys."""
    wanted = _type_with(kind, types, keys)
    return value if wanted == str(kind) else f"CAST({value} AS {wanted})"


def _type_with(kind: Any, types: Mapping[str, str], keys: str | None) -> str:
    if kind.id in types:
        return types[kind.id]
    parts = dict(kind.children) if kind.id in NESTED else {}
    if kind.id == "list":
        return f"{_type_with(parts['child'], types, keys)}[]"
    if kind.id == "array":
        return f"{_type_with(parts['child'], types, keys)}[{parts['size']}]"
    if kind.id == "map":
        return f"MAP({keys or _type_with(parts['key'], types, keys)}, {_type_with(parts['value'], types, keys)})"
    if kind.id == "struct":
        # The members of a struct without names all have the same name.
        names = [name or f"v{number}" for number, (name, _) in enumerate(kind.children, start=1)]
        members = zip(names, (part for _, part in kind.children), strict=True)
        return f"STRUCT({', '.join(f'{_quoted(name)} {_type_with(part, types, keys)}' for name, part in members)})"
    return str(kind)


def distinct_names(names: Sequence[str]) -> list[str]:
    """The result's column names, with a number appended to repeated ones, which a join may produce."""
    found: list[str] = []
    for name in names:
        repeated = (f"{name}_{number}" for number in count(1))
        found.append(name if name not in found else next(each for each in repeated if each not in {*names, *found}))
    return found


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
