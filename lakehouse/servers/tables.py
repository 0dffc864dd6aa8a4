"""Writes rows to a table of PostgreSQL, exactly once: upserted by key, all of them in one transaction.

The table and its columns are made where they are missing. A row that wouldn't change is not written, and a row that the
given ones no longer have is deleted, so that the table equals them afterwards, however often they are written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.errors import DatabaseUnavailable, SourceError

if TYPE_CHECKING:
    import polars as pl
    import psycopg

    from lakehouse.servers.postgres import Database

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_TYPES = {
    "Int8": "smallint",
    "Int16": "smallint",
    "Int32": "integer",
    "Int64": "bigint",
    "UInt8": "smallint",
    "UInt16": "integer",
    "UInt32": "bigint",
    "UInt64": "numeric(20)",
    "Float32": "real",
    "Float64": "double precision",
    "Boolean": "boolean",
    "String": "text",
    "Date": "date",
    "Time": "time",
    "Binary": "bytea",
}
"""Polars' name of a type -> PostgreSQL's. Those with parameters are in `_type_of`."""


@dataclass(frozen=True)
class TargetTable:
    """A table, and the columns that identify its rows."""

    schema: str
    name: str
    key: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in (self.schema, self.name, *self.key):
            require_name(name)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Slice:
    """The part of a table that is written: the rows with these values in a column."""

    column: str
    values: Sequence[object]


@dataclass(frozen=True)
class Written:
    """How many rows were inserted or changed, and how many deleted; the others were right already."""

    upserted: int
    deleted: int


def require_name(name: str) -> None:
    """Checks that a name needs no quotes in PostgreSQL.

    Raises:
        SourceError: it does.
    """
    if not _NAME.fullmatch(name):
        raise SourceError(f"{name!r} is no name of a table or column: use small letters, digits and _")


def write_rows(database: Database, target: TargetTable, rows: pl.DataFrame, part: Slice | None = None) -> Written:
    """Makes a table, or a slice of it, equal to some rows.

    Raises:
        SourceError: a column can't be stored, or rows have the same key or none.
        DatabaseUnavailable: the server doesn't answer, or refuses to write.
    """
    import psycopg

    columns = {name: _type_of(name, kind) for name, kind in rows.schema.items()}
    for name in columns:
        require_name(name)
    if missing := [name for name in target.key if name not in columns]:
        raise SourceError(f"{target}: its key {', '.join(missing)} is no column of the report")
    with database.connect() as connection:
        try:
            _prepare(connection, target, columns)
            _stage(connection, rows, columns)
            return _merge(connection, target, list(columns), part)
        except (psycopg.IntegrityError, psycopg.DataError, psycopg.errors.CardinalityViolation) as error:
            raise SourceError(f"{target} doesn't take the rows: {_first_line(error)}") from None
        except psycopg.errors.InvalidColumnReference:
            raise SourceError(
                f"{target} exists with another key than {', '.join(target.key)}: rename it, or write to another table"
            ) from None
        except psycopg.Error as error:
            raise DatabaseUnavailable(f"{target} can't be written at {database}: {_first_line(error)}") from None


def values_in(database: Database, target: TargetTable, column: str, first: object, last: object) -> set[object]:
    """The values of a column between two of them; none if there is no such table.

    Raises:
        DatabaseUnavailable: the server doesn't answer, or refuses to read.
    """
    import psycopg

    require_name(column)
    query = f'SELECT DISTINCT "{column}" FROM {target} WHERE "{column}" BETWEEN %s AND %s'
    with database.connect() as connection:
        try:
            return {value for (value,) in connection.execute(query.encode(), [first, last]).fetchall()}
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            return set()
        except psycopg.Error as error:
            raise DatabaseUnavailable(f"{target} can't be read at {database}: {_first_line(error)}") from None


def _prepare(connection: psycopg.Connection, target: TargetTable, columns: dict[str, str]) -> None:
    """Makes the table, or adds columns; writers of one table wait for each other."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"lakehouse table {target}"])
    definitions = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
    key = ", ".join(f'"{name}"' for name in target.key)
    _run(connection, f'CREATE SCHEMA IF NOT EXISTS "{target.schema}"')
    _run(connection, f"CREATE TABLE IF NOT EXISTS {target} ({definitions}, PRIMARY KEY ({key}))")
    for name, kind in columns.items():
        _run(connection, f'ALTER TABLE {target} ADD COLUMN IF NOT EXISTS "{name}" {kind}')


def _stage(connection: psycopg.Connection, rows: pl.DataFrame, columns: dict[str, str]) -> None:
    definitions = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
    _run(connection, f"CREATE TEMPORARY TABLE staged ({definitions}) ON COMMIT DROP")
    with connection.cursor() as cursor, cursor.copy("COPY staged FROM STDIN") as copy:
        for row in rows.iter_rows():
            copy.write_row(row)
    _run(connection, "ANALYZE staged")


def _merge(connection: psycopg.Connection, target: TargetTable, columns: Sequence[str], part: Slice | None) -> Written:
    names = ", ".join(f'"{name}"' for name in columns)
    key = ", ".join(f'"{name}"' for name in target.key)
    others = [name for name in columns if name not in target.key]
    upsert = f"INSERT INTO {target} AS t ({names}) SELECT {names} FROM staged ON CONFLICT ({key}) DO "
    if others:
        sets = ", ".join(f'"{name}" = EXCLUDED."{name}"' for name in others)
        own, new = (", ".join(f'{of}."{name}"' for name in others) for of in ("t", "EXCLUDED"))
        upsert += f"UPDATE SET {sets} WHERE ROW({own}) IS DISTINCT FROM ROW({new})"
    else:
        upsert += "NOTHING"
    upserted = _run(connection, upsert).rowcount
    same = " AND ".join(f's."{name}" = t."{name}"' for name in target.key)
    delete = f"DELETE FROM {target} t WHERE NOT EXISTS (SELECT FROM staged s WHERE {same})"
    if part is None:
        return Written(upserted, _run(connection, delete).rowcount)
    within = f' AND t."{part.column}" = ANY (%s)'
    return Written(upserted, connection.execute((delete + within).encode(), [list(part.values)]).rowcount)


def _run(connection: psycopg.Connection, statement: str) -> psycopg.Cursor:
    return connection.execute(statement.encode())


def _type_of(column: str, kind: pl.DataType) -> str:
    """PostgreSQL's type of a column.

    Raises:
        SourceError: it has none here.
    """
    import polars as pl

    if isinstance(kind, pl.Decimal):
        return f"numeric({kind.precision or 38}, {kind.scale})"
    if isinstance(kind, pl.Datetime):
        return "timestamp with time zone" if kind.time_zone else "timestamp"
    found = _TYPES.get(str(kind))
    if found is None:
        raise SourceError(
            f"column {column} is of type {kind}, which a table of PostgreSQL can't have here; leave it out"
        )
    return found


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
