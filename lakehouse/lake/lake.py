"""The lake: its tables, and SQL over them, now or as of a past moment."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar, cast

from lakehouse.errors import LakeUnavailable, MartsUnavailable, TableMissing, did_you_mean
from lakehouse.lake.compute import Compute, InProcess
from lakehouse.lake.engine import connect, opened, opened_with_catalog, prepare
from lakehouse.lake.folders import folders
from lakehouse.lake.location import storage_options
from lakehouse.lake.locked import LimitedRelation, Limits, check_query, lock
from lakehouse.lake.parsed import tables_in
from lakehouse.lake.published import attach_published
from lakehouse.lake.registry import SHARED_SCHEMA, Kind, MartsFile, Registry
from lakehouse.lake.sql import Partitions, literal, timestamp_literal
from lakehouse.lake.stored_table import Pins
from lakehouse.lake.table import LakeTable

if TYPE_CHECKING:
    import duckdb

MARTS_SCHEMA = "marts"
_CATALOG = re.compile(r"\b(show|describe|pragma|duckdb_\w+|information_schema|pg_\w+|sqlite_\w+)\b", re.IGNORECASE)
"""Words in queries without a table that list the tables."""
_SHOW_TABLES = re.compile(r'\s*show\s+tables(?:\s+(?:from|in)\s+"?(?P<schema>\w+)"?)?\s*;?\s*', re.IGNORECASE)
_KEYWORD_ARGUMENT = re.compile(
    r"""(?P<apart>'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/)|\binterval(?=\s*(?::=|=>))""",
    re.IGNORECASE | re.DOTALL,
)
"""The name of an argument that is a keyword of SQL, which DuckDB reads only in quotes; not in texts and comments."""
_QUALIFIED = re.compile(r'"?(\w+)"?\s*\.\s*"?(\w+)"?')

_log = logging.getLogger(__name__)

Made = TypeVar("Made")
Asked = Mapping[str, Collection[str]]
"""Column -> values."""
Connections = Callable[[], AbstractContextManager["duckdb.DuckDBPyConnection"]]
"""Opens an in-memory DuckDB, which is closed at the end of the block."""


class Lake:
    """All tables below one root. With `as_of` (aware, UTC), every read returns what was known at that moment; `pins`
    fixes tables at versions.
    """

    def __init__(
        self,
        uri: str,
        registry: Registry[Lake],
        *,
        warehouse: Path | None = None,
        as_of: datetime | None = None,
        connections: Connections | None = None,
        limits: Limits | None = None,
        pins: Pins = lambda path: None,
        compute: Compute | None = None,
    ) -> None:
        if as_of is not None and as_of.tzinfo is None:
            raise ValueError(f"as_of must be aware of its time zone, got {as_of.isoformat()}; append +00:00 for UTC")
        self.uri = uri
        self.registry = registry
        self.warehouse = warehouse
        self.as_of = as_of
        self._connections = connections
        self.limits = limits
        self.pin = pins
        self.compute = compute or InProcess()
        self.asked: Asked | None = None
        self._marts_as_of: dict[frozenset[str] | None, MartsFile] = {}
        self._remembered: dict[str, tuple[object, object]] = {}

    def __repr__(self) -> str:
        at = f", as_of={self.as_of.isoformat()!r}" if self.as_of else ""
        return f"Lake({self.uri!r}{at})"

    @cached_property
    def storage_options(self) -> dict[str, str]:
        return storage_options(self.uri)

    def table(self, name: str) -> LakeTable:
        """A table by its path (`xetra/daily_bars`, `ingest_ledger`) or SQL name (`xetra.daily_bars`,
        `lake.ingest_ledger`).

        Raises:
            ContractError: the lake has no contract for such a table.
        """
        path = name.replace(".", "/")
        if path.startswith(f"{SHARED_SCHEMA}/"):
            path = path.removeprefix(f"{SHARED_SCHEMA}/")
        contract = self.registry.entry(path).contract
        uri, pin = f"{self.uri}/{path}", self.pin(path)
        return LakeTable(path, uri, self.storage_options, contract, self._why_missing, pin)

    def pinned(self, pins: Pins, warehouse: Path | None) -> Self:
        """This lake with tables fixed at versions, and other marts."""
        made = copy(self)
        made.pin, made.warehouse, made._marts_as_of, made._remembered = pins, warehouse, {}, {}
        made.__dict__.pop("_sources", None)
        return made

    def asking(self, asked: Asked) -> Self:
        """This lake for a reader that uses no other rows than those in which one of the columns has one of its values:
        views may leave out the others, so that they needn't be computed over all rows.
        """
        made = copy(self)
        made.asked = asked
        return made

    def remembered(self, name: str, made_of: object, make: Callable[[], Made]) -> Made:
        """What `make` computes of this lake's moment and of `made_of`, such as versions of tables: computed again only
        when these are others than the last time by that name.
        """
        last = self._remembered.get(name)
        if last is None or last[0] != made_of:
            last = self._remembered[name] = (made_of, make())
        return cast("Made", last[1])

    def _why_missing(self, path: str) -> str | None:
        """The reason if no load can ever write the table at a path."""
        source, _, table = path.rpartition("/")
        if not source:
            shared = self.registry.shared
            itself = f"the lake at {self.uri} itself has no table {table}; it has {', '.join(shared)}"
            return None if table in shared else itself
        if source not in folders(self.uri):
            others = [f"{other}/{table}" for other in folders(self.uri) if table in folders(f"{self.uri}/{other}")]
            return (
                f"the lake at {self.uri} has nothing of {source}: {path} has never been written"
                f"{did_you_mean(path, others)}"
            )
        kinds = self.registry.kinds_of(source, folders(f"{self.uri}/{source}"))
        if kinds and not any(table in kind.tables for kind in kinds):
            tables = [name for kind in kinds for name in kind.tables]
            return f"{source} in the lake at {self.uri} has no table {table}; it has {', '.join(tables)}"
        return None

    def select(self, name: str, connection: duckdb.DuckDBPyConnection, partitions: Partitions | None = None) -> str:
        """A DuckDB query for a table's rows (of `partitions`, if given), as of `self.as_of`.

        Of a stored table, these are the rows that count. As of a moment, it is filtered by its contract's `known_at`,
        or derived again from its inputs, in this case for all partitions. A view is always computed.

        Raises:
            TableMissing: `as_of` is set, and no description tells how to derive the table.
        """
        table = self.table(name)
        entry = self.registry.entry(table.name)
        make = entry.query or (entry.as_of if self.as_of is not None else None)
        if make is not None:
            return make(self, connection)
        if entry.rows is not None:
            return entry.rows(self, connection, table.name, partitions)
        snapshot = table.snapshot()
        if self.as_of is None or snapshot.delta is None:
            return snapshot.select(partitions)
        if entry.contract.known_at is None:
            raise TableMissing(
                f"{table.name} can't be read as of {self.as_of}: no defs.yaml describes "
                f"{table.name.partition('/')[0]} any more",
                "Put its file back, or read the table as it is stored",
            )
        moment = timestamp_literal(self.as_of)
        return f"SELECT * FROM ({snapshot.select(partitions)}) WHERE {entry.contract.known_at} <= {moment}::TIMESTAMPTZ"

    def attach(
        self, connection: duckdb.DuckDBPyConnection, names: Iterable[tuple[str, str]], catalog: str | None = None
    ) -> None:
        """Creates a view for each (schema, table) of the lake in `connection`, in `catalog` or the current one.

        As of a moment, creates tables instead of views in a `catalog`: only this connection knows the relations that
        they are derived from, while all connections of the database share the catalog.
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
    def connect(self, memory: str | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to an in-memory DuckDB that can read this lake's files, for temporary tables and registered
        frames alone; closed at the end. With `memory` (`1GB`) it is a DuckDB of its own, which spills the rest.

        Raises:
            LakeUnavailable: in the block, if a file can't be read.
        """
        import duckdb

        try:
            if memory is not None:
                with connect(self.uri, memory) as connection:
                    yield connection
            elif self._connections is None:
                with opened(self.uri) as connection:
                    yield connection
            else:
                with self._connections() as connection:
                    yield prepare(connection, self.uri)
        except duckdb.IOException as error:
            raise LakeUnavailable(f"{self.uri} can't be read: {error}") from error

    def sources(self, kind: str | None = None) -> list[str]:
        """The sources (of a kind) with a table in this lake, sorted."""
        return [
            source
            for source, kinds in self._sources.items()
            if kind is None or any(found.name == kind for found in kinds)
        ]

    @property
    def _schemas(self) -> list[str]:
        """The SQL schemas of sources and domains."""
        return [*self.registry.domains, *self.sources()]

    @cached_property
    def _sources(self) -> dict[str, list[Kind]]:
        """Source -> the kinds whose tables it has, by the lake's folders and the ledger."""
        # A source whose objects all failed is only in the ledger.
        loaded = self.table("ingest_ledger").snapshot().partition_values("source")
        found = {source: self.registry.kinds_of(source, ()) for source in loaded}
        for source in folders(self.uri):
            if source not in self.registry.shared:
                stored = folders(f"{self.uri}/{source}")
                kinds = self.registry.kinds_of(source, stored)
                found[source] = [
                    kind for kind in kinds if source in loaded or not kind.tables.keys().isdisjoint(stored)
                ]
        return {source: kinds for source, kinds in sorted(found.items()) if kinds}

    def tables(self) -> list[tuple[str, str]]:
        """Every (schema, table) of the lake, by their SQL names."""
        of_all = {SHARED_SCHEMA: self.registry.shared, **self.registry.domains}
        return [(schema, name) for schema, views in of_all.items() for name in views] + [
            (source, name) for source, kinds in self._sources.items() for kind in kinds for name in kind.tables
        ]

    def sql(self, query: str) -> duckdb.DuckDBPyRelation | None:
        """Runs a query over the lake's tables (`xetra.daily_bars`, `lake.quarantine`, ...) and the published
        marts (`marts.<model>`).

        Opens only the tables that the query names; SHOW TABLES lists all and opens none. The result is a DuckDB
        relation (`.pl()`, `.df()`, `.arrow()`, `.show()`), None for a statement without one.

        Raises:
            duckdb.Error: the query is wrong; if a table is unknown, the message lists the existing ones.
            QueryNotAllowed: the lake is locked, and the query does more than select from its tables.
            QueryLimitReached: the lake is locked, and the query takes too long or too much memory. The relation's
                methods raise it too.
        """
        import duckdb

        query = _KEYWORD_ARGUMENT.sub(lambda found: found["apart"] or '"interval"', query)
        if self.limits is not None:
            known = self._schemas
            check_query(
                query,
                [*known, SHARED_SCHEMA, MARTS_SCHEMA, *(schema for schema, _ in self.tables())],
                [(source, macro) for source, macro in self._calls_in(query) if source.lower() in known],
            )
        if (shown := _SHOW_TABLES.fullmatch(query)) is not None:
            return self._listed(connect(self.uri), shown["schema"])
        connection = opened_with_catalog(self.uri)
        named = self._named_in(query, connection)
        if not self._only_reads_tables(query, named, connection):
            connection = connect(self.uri)
        self._attach_marts(named, connection)
        # A query that names no table needs no lake.
        stored = [] if named == [] else self.tables()
        self.attach(connection, stored if named is None else [pair for pair in named if pair in stored])
        for source, name in {(source.lower(), name.lower()) for source, name in self._calls_in(query)}:
            if source in self._schemas and (make := self.registry.macros.get(source, {}).get(name)):
                make(self, connection)
        if self.limits is not None:
            lock(connection, self.uri, self.limits)
        try:
            with self.limits.explained() if self.limits is not None else nullcontext():
                found = connection.sql(query)
            if self.limits is None or found is None:
                return found
            return cast("duckdb.DuckDBPyRelation", LimitedRelation(found, self.limits))
        except duckdb.CatalogException as error:
            tables = [f"{schema}.{table}" for schema, table in self.tables()]
            has_marts = self.as_of or (self.warehouse is not None and self.warehouse.exists())
            published = "" if has_marts else " No marts are published yet."
            asked = [f"{schema}.{table}" for schema, table in [*(named or []), *self._calls_in(query)]]
            macros = [f"{schema}.{name}" for schema in self._schemas for name in self.registry.macros.get(schema, ())]
            meant = "".join(did_you_mean(name, [*tables, *macros]) for name in asked if name not in tables)
            raise duckdb.CatalogException(
                f"{error}\nThe lake at {self.uri} has {', '.join(tables)}{meant or '.'} A source's tables appear with "
                f"its first load.{published}"
            ) from None

    def _only_reads_tables(
        self, query: str, named: list[tuple[str, str]] | None, connection: duckdb.DuckDBPyConnection
    ) -> bool:
        """Whether a query needs no DuckDB of its own, which takes more time than reading a day: a SELECT without limits
        of tables of the lake. Marts are attached to the whole DuckDB, and lists of tables would show other queries'.
        """
        import duckdb

        if self.limits is not None or named is None or _CATALOG.search(query):
            return False
        if not all(schema and schema != MARTS_SCHEMA for schema, _ in named):
            return False
        return [each.type for each in connection.extract_statements(query)] == [duckdb.StatementType.SELECT]

    def _listed(self, connection: duckdb.DuckDBPyConnection, schema: str | None) -> duckdb.DuckDBPyRelation:
        """The names of all tables, views and marts (of a schema), which DuckDB's own SHOW TABLES lists only for the
        schema in use.

        Raises:
            duckdb.CatalogException: no table is in that schema.
        """
        import duckdb

        found = self.tables()
        if self.warehouse is not None and self.warehouse.exists():
            try:
                attach_published(connection, self.warehouse, "warehouse")
            except MartsUnavailable as error:
                _log.warning("Going on without the marts: %s", error)
            else:
                of_marts = f"database_name = 'warehouse' AND schema_name = '{MARTS_SCHEMA}'"
                found += connection.execute(
                    f"SELECT schema_name, table_name FROM duckdb_tables() WHERE {of_marts}"
                ).fetchall()
        schemas = sorted({each for each, _ in found})
        if schema is not None and schema.lower() not in schemas:
            raise duckdb.CatalogException(
                f"The lake at {self.uri} has no schema {schema}; it has {', '.join(schemas)}"
                f"{did_you_mean(schema, schemas)}"
            )
        wanted = [pair for pair in sorted(found) if schema is None or pair[0] == schema.lower()]
        rows = ", ".join(f"({literal(each)}, {literal(name)})" for each, name in wanted)
        return connection.sql(f"SELECT * FROM (VALUES {rows}) AS shown(schema, name)")

    def _calls_in(self, query: str) -> list[tuple[str, str]]:
        """The (schema, name) pairs of the calls of table macros in a query."""
        names = "|".join(self.registry.macro_names)
        found = re.findall(rf'"?(\w+)"?\s*\.\s*({names})\s*\(', query, re.IGNORECASE) if names else []
        return list(found)

    def _named_in(self, query: str, connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str]] | None:
        """The (schema, table) pairs that a query names, with schema "" if it names only the table; None if they are
        unknown (SHOW, several statements other than SELECT).
        """
        import duckdb

        try:
            names = connection.get_table_names(query, qualified=True)
        except duckdb.Error:
            # DuckDB binds joins by USING, and functions, for which tables and macros would have to exist.
            if self._calls_in(query):
                # What a macro of the lake is given may be a table: take everything that could be one.
                return [(schema.lower(), table.lower()) for schema, table in _QUALIFIED.findall(query)]
            return tables_in(query) or None
        # DuckDB returns a table with an alias as `schema.table AS alias`. SQL names are case-insensitive.
        parts = [name.partition(" AS ")[0].replace('"', "").lower().split(".")[-2:] for name in names]
        if not parts and not _CATALOG.search(query):
            return []
        return [(pair[-2] if len(pair) == 2 else "", pair[-1]) for pair in parts] or None

    def _attach_marts(self, named: list[tuple[str, str]] | None, connection: duckdb.DuckDBPyConnection) -> None:
        """Attaches the marts if a query may need them: the published ones, or those that it names built as of
        `self.as_of` (all of them if it is unknown which).

        Raises:
            MartsUnavailable: the query names a mart, and the published file is damaged.
        """
        wanted: frozenset[str] | None = None
        if named is not None and all(schema for schema, _ in named):
            wanted = frozenset(table for schema, table in named if schema == MARTS_SCHEMA)
            if not wanted:
                return
        if self.as_of is not None and self.registry.marts_as_of is not None:
            if wanted not in self._marts_as_of:
                self._marts_as_of[wanted] = self.registry.marts_as_of(self.as_of, wanted, self.pin)
            connection.execute(f"ATTACH {literal(str(self._marts_as_of[wanted].path))} AS warehouse (READ_ONLY)")
        else:
            if self.warehouse is None or not self.warehouse.exists():
                return
            try:
                attach_published(connection, self.warehouse, "warehouse")
            except MartsUnavailable as error:
                if wanted:
                    raise
                _log.warning("Going on without the marts: %s", error)
                return
        connection.execute("SET search_path = 'memory.main,warehouse.marts'")
