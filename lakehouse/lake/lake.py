"""The lake as people hold it in their hand: open it, take a table, ask it in SQL, now or as of a past moment."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.lake.contract import contracts
from lakehouse.lake.engine import connect, prepare
from lakehouse.lake.table import LakeTable, Partitions, literal
from lakehouse.settings import Settings, settings

if TYPE_CHECKING:
    import duckdb

SHARED_SCHEMA = "lake"
"""The SQL schema of the tables that all sources share."""
MARTS_SCHEMA = "marts"
_MARTS_AS_OF = "lakehouse.warehouse.publish:marts_as_of"
"""Builds the marts as of a moment; named, not imported, as the contracts name what derives their tables."""
SHARED_TABLES = ("ingest_ledger", "quarantine", "conservation")

Connections = Callable[[], AbstractContextManager["duckdb.DuckDBPyConnection"]]
"""Opens an in-memory DuckDB and closes it at the end."""

Derivation = Callable[["Lake", "duckdb.DuckDBPyConnection", str], str]
"""Makes the SQL query of a table of a source as of `lake.as_of`."""


class Lake:
    """All tables below one root. `as_of` (aware, UTC) makes every read answer what was known at that moment."""

    def __init__(
        self,
        uri: str,
        warehouse: Path | None = None,
        as_of: datetime | None = None,
        connections: Connections | None = None,
    ) -> None:
        if as_of is not None and as_of.tzinfo is None:
            raise ValueError(f"as_of must be aware of its time zone, got {as_of.isoformat()}; append +00:00 for UTC")
        self.uri = uri
        self.warehouse = warehouse
        self.as_of = as_of
        self._connections = connections
        self._marts_as_of: Any = None

    @classmethod
    def open(
        cls, config: Settings | None = None, *, as_of: datetime | None = None, connections: Connections | None = None
    ) -> Lake:
        """The lake that the settings name (`LAKEHOUSE_LAKE_URI`, `LAKEHOUSE_HOME`).

        `connections` opens the DuckDB connections that work on the lake uses, where somebody configures them (a
        memory limit, threads).
        """
        config = config or settings()
        return cls(config.lake, config.warehouse, as_of, connections)

    @cached_property
    def storage_options(self) -> dict[str, str]:
        # Credentials and endpoint come from AWS_* variables; the conditional put is what makes concurrent
        # commits safe on S3.
        return {"conditional_put": "etag"} if self.uri.startswith("s3://") else {}

    def table(self, name: str) -> LakeTable:
        """A table by its path (`xetra/daily_bars`, `ingest_ledger`) or SQL name (`xetra.daily_bars`,
        `lake.ingest_ledger`).

        Raises:
            ContractError: the lake has no contract for such a table.
        """
        path = name.replace(".", "/")
        if path.startswith(f"{SHARED_SCHEMA}/"):
            path = path.removeprefix(f"{SHARED_SCHEMA}/")
        return LakeTable(path, f"{self.uri}/{path}", self.storage_options)

    def select(self, name: str, connection: duckdb.DuckDBPyConnection, partitions: Partitions | None = None) -> str:
        """A DuckDB query for a table's rows (of `partitions`, if given), as of `self.as_of`.

        A stored table is read as it stands. As of a moment it is filtered by its contract's `known_at`, or made
        again by `derived_by`; the latter answers for all partitions.
        A table without partitions is a view: always made by `derived_by`.
        """
        table = self.table(name)
        contract = table.contract
        if contract.derived_by and (self.as_of or not contract.partition_by):
            module, function = contract.derived_by.split(":")
            derive: Derivation = getattr(importlib.import_module(module), function)
            return derive(self, connection, table.name.split("/")[0])
        if self.as_of is None:
            return table.snapshot().select(partitions)
        moment = literal(self.as_of.astimezone(UTC).isoformat())
        return (
            f"SELECT * FROM ({table.snapshot().select(partitions)}) WHERE {contract.known_at} <= {moment}::TIMESTAMPTZ"
        )

    def attach(
        self, connection: duckdb.DuckDBPyConnection, names: Iterable[tuple[str, str]], catalog: str | None = None
    ) -> None:
        """Makes a view for each (schema, table) of the lake in `connection`, in `catalog` or the current one.

        As of a moment, tables in a `catalog` are made instead of views: what derives them is known to this
            connection only, the catalog to all of the database's.
        """
        kind = "TABLE" if catalog and self.as_of else "VIEW"
        prefix = f"{catalog}." if catalog else ""
        for schema, table in names:
            path = table if schema == SHARED_SCHEMA else f"{schema}/{table}"
            connection.execute(f'CREATE SCHEMA IF NOT EXISTS {prefix}"{schema}"')
            connection.execute(
                f'CREATE OR REPLACE {kind} {prefix}"{schema}"."{table}" AS {self.select(path, connection)}'
            )

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """An in-memory DuckDB that can read this lake's files, closed at the end; it has no views yet (see
        `attach`).
        """
        if self._connections is None:
            with connect(self.uri) as connection:
                yield connection
        else:
            with self._connections() as connection:
                yield prepare(connection, self.uri)

    def sources(self) -> list[str]:
        """The sources that ever loaded anything into this lake."""
        return self.table("ingest_ledger").snapshot().partition_values("source")

    def tables(self) -> list[tuple[str, str]]:
        """Every (schema, table) of the lake, as SQL names them."""
        return [(SHARED_SCHEMA, name) for name in SHARED_TABLES] + [
            (source, name) for source in self.sources() for name in self.source_tables()
        ]

    def sql(self, query: str) -> duckdb.DuckDBPyRelation | None:
        """Runs a query over the lake's tables (`xetra.daily_bars`, `lake.quarantine`, ...) and the published
        marts (`marts.<model>`).

        Only the tables that the query names are opened. The result is a DuckDB relation (`.pl()`, `.df()`,
        `.arrow()`, `.show()`), None for a statement without one.

        Raises:
            duckdb.Error: the query is wrong; where a table is unknown, the message names those that there are.
        """
        import duckdb

        connection = connect(self.uri)
        named = self._named_in(query, connection)
        marts = self._marts(asked=named is None or any(schema == MARTS_SCHEMA for schema, _ in named))
        if marts is not None:
            connection.execute(f"ATTACH {literal(str(marts))} AS warehouse (READ_ONLY)")
            connection.execute("SET search_path = 'memory.main,warehouse.marts'")
        known = self.tables()
        self.attach(connection, known if named is None else [pair for pair in named if pair in known])
        try:
            return connection.sql(query)
        except duckdb.CatalogException as error:
            tables = ", ".join(f"{schema}.{table}" for schema, table in known)
            published = "" if marts else " No marts are published yet."
            raise duckdb.CatalogException(
                f"{error}\nThe lake has {tables}; a source's tables appear with its first load.{published}"
            ) from None

    def _named_in(self, query: str, connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str]] | None:
        """The (schema, table) pairs that a query names; None for a query that can't be looked into (SHOW,
        DESCRIBE, several statements).
        """
        import duckdb

        try:
            names = connection.get_table_names(query, qualified=True)
        except duckdb.Error:
            return None
        parts = [name.replace('"', "").split(".")[-2:] for name in names]
        return [(pair[0], pair[1]) for pair in parts if len(pair) == 2] or None

    def _marts(self, *, asked: bool) -> Path | None:
        """The file with the marts: the published one, or one built as of `self.as_of` when the query asks for marts."""
        if self.as_of is None:
            return self.warehouse if self.warehouse is not None and self.warehouse.exists() else None
        if not asked:
            return None
        if self._marts_as_of is None:
            module, function = _MARTS_AS_OF.split(":")
            self._marts_as_of = getattr(importlib.import_module(module), function)(self.as_of)
        return self._marts_as_of.path

    @staticmethod
    def source_tables() -> list[str]:
        """The names of the tables that a source can have."""
        return [name for name in contracts() if name not in SHARED_TABLES]
