"""What is stored of each table: rows, bytes and the time of the last write, by Delta's logs and the published file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lakehouse.errors import LakehouseError
from lakehouse.governance.described import DescribedTable
from lakehouse.lake.lake import MARTS_SCHEMA, Lake
from lakehouse.lake.published import attach_published

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Figures:
    """What is stored of a table; None where nothing is, or where it can't be read."""

    rows: int | None = None
    bytes: int | None = None
    updated_at: datetime | None = None


def figures(lake: Lake, tables: Iterable[DescribedTable]) -> dict[str, Figures]:
    """The figures of tables, by their SQL names, at the versions that the lake reads. As of a past moment there are
    none: Delta's logs tell what was stored, not what was known.
    """
    if lake.as_of is not None:
        return {}
    wanted = list(tables)
    found = {table.sql_name: of_table(lake, table) for table in wanted if table.schema != MARTS_SCHEMA}
    if any(table.schema == MARTS_SCHEMA for table in wanted):
        found |= of_marts(lake)
    return found


def of_table(lake: Lake, table: DescribedTable) -> Figures:
    """The figures of a table of the lake."""
    if table.kind == "view":
        return Figures()
    try:
        snapshot = lake.table(table.path).snapshot()
    except LakehouseError:
        # A damaged or outdated table has an entry in the catalogue too; reading it tells what is wrong.
        return Figures()
    if snapshot.delta is None:
        return Figures()
    return Figures(snapshot.row_count(), snapshot.byte_count(), snapshot.written_at())


def of_marts(lake: Lake) -> dict[str, Figures]:
    """The figures of the published marts, by their SQL names."""
    import duckdb

    path = lake.warehouse
    if path is None or not path.exists():
        return {}
    published_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    with duckdb.connect() as connection:
        try:
            attach_published(connection, path, "published")
        except LakehouseError:
            return {}
        names = connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE (database_name, schema_name) = ('published', ?)",
            [MARTS_SCHEMA],
        ).fetchall()
        return {f"{MARTS_SCHEMA}.{name}": _of_mart(connection, name, published_at) for (name,) in names}


def _of_mart(connection: duckdb.DuckDBPyConnection, name: str, published_at: datetime) -> Figures:
    relation = f'published.{MARTS_SCHEMA}."{name}"'
    (rows,) = connection.execute(f"SELECT count(*) FROM {relation}").fetchall()[0]
    (size,) = connection.execute(
        f"""
        SELECT count(DISTINCT block_id) * (SELECT any_value(block_size) FROM pragma_database_size()
            WHERE database_name = 'published')
        FROM pragma_storage_info('{relation}') WHERE block_id >= 0
        """
    ).fetchall()[0]
    return Figures(rows, size, published_at)
