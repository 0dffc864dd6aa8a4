"""At which versions dbt's models read the lake's tables.

A build is told by a table in the private file that dbt builds: the plugin, which attaches the lake, has no other
channel that dbt doesn't parse its project anew for. The table goes before the file is published.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.lake.published import has_table
from lakehouse.lake.table import Pin

if TYPE_CHECKING:
    import duckdb

_SCHEMA = "reading"
_TABLE = "pins"


@contextmanager
def reading(build: Path, pins: Mapping[str, Pin]) -> Iterator[None]:
    """In the block, what dbt builds into the private file is made from tables fixed at versions, by their paths."""
    import duckdb

    with duckdb.connect(str(build)) as connection:
        connection.execute(f"CREATE SCHEMA {_SCHEMA}; CREATE TABLE {_SCHEMA}.{_TABLE} (path VARCHAR, version BIGINT)")
        rows = [(path, pin.version) for path, pin in pins.items()]
        if rows:
            connection.executemany(f"INSERT INTO {_SCHEMA}.{_TABLE} VALUES (?, ?)", rows)
    yield
    with duckdb.connect(str(build)) as connection:
        connection.execute(f"DROP SCHEMA {_SCHEMA} CASCADE")


def pins_in(connection: duckdb.DuckDBPyConnection) -> dict[str, Pin]:
    """The versions that `reading` has noted in the file that dbt builds; none where it has none."""
    row = connection.execute("SELECT current_database()").fetchone()
    assert row is not None
    if not has_table(connection, row[0], _SCHEMA, _TABLE):
        return {}
    rows = connection.execute(f"SELECT path, version FROM {_SCHEMA}.{_TABLE}").fetchall()
    return {path: Pin(version) for path, version in rows}
