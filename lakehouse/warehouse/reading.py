"""How dbt's models read the lake in one run: as of which moment, and which tables at which versions.

It is noted in the private file that dbt builds, where the plugin that attaches the lake reads it: dbt would parse its
project again if a variable changed. What changed is noted there, too, for models that restrict themselves to it
(see `differences`). The notes are removed before the file is published.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from lakehouse.lake.published import NOTES, noted
from lakehouse.lake.sql import literal
from lakehouse.lake.stored_table import Pin

if TYPE_CHECKING:
    import duckdb

_PINS = "pins"
_KINDS = "kinds"
_MOMENT = "moment"


@contextmanager
def reading(
    connection: duckdb.DuckDBPyConnection,
    pins: Mapping[str, Pin],
    as_of: datetime | None = None,
    kinds: Collection[str] | None = None,
) -> Iterator[None]:
    """In the block, dbt builds the private file from the lake as of a moment (None: now), and from the pinned tables,
    by their paths, at their versions. Only models that read tables of these `kinds` of sources can be built (None: all
    models).

    Args:
        connection: to the private file. While it is open, dbt's connections to the file share its DuckDB, and what is
            attached to it.
    """
    connection.execute(
        f"""
        CREATE SCHEMA {NOTES};
        CREATE TABLE {NOTES}.{_PINS} (path VARCHAR, version BIGINT);
        CREATE TABLE {NOTES}.{_MOMENT} (as_of VARCHAR);
        CREATE TABLE {NOTES}.{_KINDS} (kind VARCHAR)
        """
    )
    rows = [(path, pin.version) for path, pin in pins.items()]
    if rows:
        values = ", ".join(f"({literal(path)}, {'NULL' if version is None else version})" for path, version in rows)
        connection.execute(f"INSERT INTO {NOTES}.{_PINS} VALUES {values}")
    for kind in kinds or ():
        connection.execute(f"INSERT INTO {NOTES}.{_KINDS} VALUES ({literal(kind)})")
    if as_of is not None:
        connection.execute(f"INSERT INTO {NOTES}.{_MOMENT} VALUES ({literal(as_of.isoformat())})")
    yield
    connection.execute(f"DROP SCHEMA {NOTES} CASCADE")


def pins_in(connection: duckdb.DuckDBPyConnection) -> dict[str, Pin]:
    """The versions that `reading` has noted in the file that dbt builds."""
    return {path: Pin(version) for path, version in _noted(connection, _PINS)}


def moment_in(connection: duckdb.DuckDBPyConnection) -> datetime | None:
    """The moment that `reading` has noted; None for now."""
    return next((datetime.fromisoformat(as_of) for (as_of,) in _noted(connection, _MOMENT)), None)


def kinds_in(connection: duckdb.DuckDBPyConnection) -> set[str] | None:
    """The kinds of sources whose tables are read; None for all."""
    return {kind for (kind,) in _noted(connection, _KINDS)} or None


def _noted(connection: duckdb.DuckDBPyConnection, table: str) -> list[tuple]:
    relation = noted(connection, table)
    return connection.execute(f"FROM {relation}").fetchall() if relation else []
