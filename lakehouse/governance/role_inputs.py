"""What the files of roles are made from: tables of the lake, and published marts, each with the state that it is in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from lakehouse.governance.grants import Sight
from lakehouse.governance.role_file import PublishedFile
from lakehouse.lake.engine import connect
from lakehouse.lake.lake import MARTS_SCHEMA, Lake
from lakehouse.lake.published import attach_published
from lakehouse.lake.registry import SHARED_SCHEMA

if TYPE_CHECKING:
    import duckdb


class RoleInputs:
    """The inputs of a publication, each looked at once for all roles."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._contents: dict[str, str] = {}

    @cached_property
    def stored(self) -> set[str]:
        """The SQL names of the lake's tables."""
        return {f"{schema}.{table}" for schema, table in self.lake.tables()}

    @cached_property
    def marts(self) -> str:
        """Tells one file of published marts from another."""
        warehouse = self.lake.warehouse
        if warehouse is None or not warehouse.exists():
            return "none"
        stat = warehouse.stat()
        return f"{stat.st_mtime_ns} {stat.st_size} {stat.st_ino}"

    @cached_property
    def _models(self) -> set[str]:
        if self.marts == "none":
            return set()
        with connect(self.lake.uri) as connection:
            self._attach_marts(connection)
            return {
                f"{MARTS_SCHEMA}.{name}"
                for (name,) in connection.execute(
                    "SELECT table_name FROM duckdb_tables() "
                    f"WHERE (database_name, schema_name) = ('warehouse', '{MARTS_SCHEMA}')"
                ).fetchall()
            }

    @cached_property
    def _whole(self) -> str:
        """The state of all stored tables: that of a view, which may read any."""
        return " ".join(sorted(self._version(name) for name in self.stored))

    def state(self, table: str, before: PublishedFile | None) -> str | None:
        """A digest of the state of a table, which changes with its rows; None if it isn't there yet.

        Args:
            before: the role's present file. A mart that it was made from is looked at only after another publication.
        """
        if table.startswith(f"{MARTS_SCHEMA}."):
            if before is not None and before.marts == self.marts and table in before.tables:
                return before.tables[table].state
            return digest(self._content(table)) if table in self._models else None
        if table not in self.stored:
            return None
        entry = self.lake.registry.entry(_path(table))
        if entry.query is not None:
            return digest(self._whole)
        return digest(self._version(table), self._version(f"{SHARED_SCHEMA}.ingest_ledger") if entry.rows else "")

    def attach(self, connection: duckdb.DuckDBPyConnection, needed: Sequence[Sight]) -> None:
        """Makes tables readable in a connection: the lake's as views, the marts in the catalog `warehouse`."""
        if any(sight.schema == MARTS_SCHEMA for sight in needed):
            self._attach_marts(connection)
        names = [(sight.schema, sight.name) for sight in needed if sight.schema != MARTS_SCHEMA]
        self.lake.attach(connection, names)

    def _attach_marts(self, connection: duckdb.DuckDBPyConnection) -> None:
        assert self.lake.warehouse is not None
        attach_published(connection, self.lake.warehouse, "warehouse")

    def _version(self, table: str) -> str:
        if self.lake.registry.entry(_path(table)).query is not None:
            return ""
        return f"{table}@{self.lake.table(_path(table)).snapshot().version} "

    def _content(self, table: str) -> str:
        """A digest of a mart's rows: each publication replaces the file, whichever marts changed."""
        if table not in self._contents:
            with connect(self.lake.uri) as connection:
                self._attach_marts(connection)
                self._contents[table] = content_of(connection, f"warehouse.{table}")[1]
        return self._contents[table]


def content_of(connection: duckdb.DuckDBPyConnection, relation: str) -> tuple[int, str]:
    """The number of a table's rows, and a digest of them and of its columns that doesn't depend on their order."""
    columns = connection.execute(f"DESCRIBE {relation}").fetchall()
    row = connection.execute(
        f'SELECT count(*), coalesce(sum(hash("each row")), 0)::VARCHAR FROM {relation} AS "each row"'
    ).fetchone()
    assert row is not None
    return row[0], f"{row[0]} {row[1]} {' '.join(f'{name} {kind}' for name, kind, *_ in columns)}"


def digest(*facts: str) -> str:
    """A digest of some texts."""
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()


def _path(table: str) -> str:
    """The path in the lake of a table's SQL name."""
    return table.removeprefix(f"{SHARED_SCHEMA}.").replace(".", "/")
