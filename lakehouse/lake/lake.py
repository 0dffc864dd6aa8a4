"""The lake as people hold it in their hand: open it, take a table, ask it in SQL, now or as of a past moment."""

from __future__ import annotations

import importlib
import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from lakehouse.errors import LakeUnavailable, MartsUnavailable, TableMissing, did_you_mean
from lakehouse.lake.contract import contracts
from lakehouse.lake.engine import connect, prepare
from lakehouse.lake.folders import folders, require_folder
from lakehouse.lake.location import is_remote
from lakehouse.lake.locked import LimitedRelation, Limits, check_query, lock
from lakehouse.lake.place import settings_at
from lakehouse.lake.published import attach_published
from lakehouse.lake.releases import (
    Release,
    marts_file,
    present_marts,
    release_folder,
    release_in_use,
    release_named,
)
from lakehouse.lake.sql import Partitions, literal, moment_literal, parse_moment, predicate
from lakehouse.lake.table import LakeTable, Pin
from lakehouse.settings import Settings, settings

if TYPE_CHECKING:
    import duckdb

SHARED_SCHEMA = "lake"
"""The SQL schema of the tables that all sources share."""
MARTS_SCHEMA = "marts"
_MARTS_AS_OF = "lakehouse.warehouse.publish:marts_as_of"
"""Builds the marts as of a moment; named, not imported, as the contracts name what derives their tables."""
_MACROS = {
    name: f"lakehouse.domains.market.corporate_actions.macros:{name}"
    for name in ("adjusted_daily_bars", "adjusted_official_daily")
}
"""Table macros of a source, and what makes them in a connection."""
_CALL = re.compile(rf'"?(\w+)"?\s*\.\s*({"|".join(_MACROS)})\s*\(', re.IGNORECASE)
_CATALOG = re.compile(r"\b(show|describe|pragma|duckdb_\w+|information_schema|pg_\w+|sqlite_\w+)\b", re.IGNORECASE)
"""Queries without a table that ask which tables there are."""
_QUALIFIED = re.compile(r'"?(\w+)"?\s*\.\s*"?(\w+)"?')

_log = logging.getLogger(__name__)

Connections = Callable[[], AbstractContextManager["duckdb.DuckDBPyConnection"]]
"""Opens an in-memory DuckDB and closes it at the end."""

Adjustment = Literal["none", "splits", "splits_and_dividends"]
Convention = Literal["crsp", "reinvest"]

Derivation = Callable[["Lake", "duckdb.DuckDBPyConnection", str], str]
"""Makes the SQL query of a table of a source as of `lake.as_of`."""

Reading = Callable[["Lake", "duckdb.DuckDBPyConnection", str, "Partitions | None"], str]
"""Makes the SQL query of those rows of a table (of some partitions) that count, as of `lake.as_of`."""


class Lake:
    """All tables below one root. `as_of` (aware, UTC) makes every read answer what was known at that moment; `pins`
    says at which versions tables are read, by their paths.
    """

    def __init__(
        self,
        uri: str,
        warehouse: Path | None = None,
        as_of: datetime | None = None,
        connections: Connections | None = None,
        config: Settings | None = None,
        limits: Limits | None = None,
        pins: Callable[[str], Pin | None] = lambda path: None,
    ) -> None:
        if as_of is not None and as_of.tzinfo is None:
            raise ValueError(f"as_of must be aware of its time zone, got {as_of.isoformat()}; append +00:00 for UTC")
        self.uri = uri
        self.warehouse = warehouse
        self.as_of = as_of
        self._connections = connections
        self._config = config
        self.limits = limits
        self.pin = pins
        self._marts_as_of: dict[frozenset[str] | None, Any] = {}

    @classmethod
    def open(
        cls,
        place: Settings | str | os.PathLike[str] | None = None,
        *,
        as_of: datetime | date | str | None = None,
        connections: Connections | None = None,
        locked: bool = False,
    ) -> Lake:
        """The lake that the settings name (`LAKEHOUSE_LAKE_URI`, `LAKEHOUSE_HOME`), or the one at `place`, as readers
        see it: while a release is in use (`lakehouse release use`), its tables and marts, which can't be written.

        Args:
            place: other settings; or a home, as LAKEHOUSE_HOME names it; or where the tables are, a folder or an
                s3:// URI.
            as_of: also a date, or text in ISO 8601, in UTC where it names no offset.
            connections: opens the DuckDB connections that work on the lake uses, to configure them (a memory limit,
                threads).
            locked: `sql` is for other people's queries: SELECT alone, no files, network, settings or extensions, and
                with limits of memory and time (`LAKEHOUSE_LOCKED_MEMORY`, `LAKEHOUSE_LOCKED_SECONDS`).

        Raises:
            LakeUnavailable: there is no folder of that name, or the home is a file.
            ReleaseError: a release is in use that the lake doesn't have, or whose marts are in another home.
        """
        lake = cls.present(place, as_of=as_of, connections=connections, locked=locked)
        name = release_in_use(lake._config) if lake.warehouse is not None and lake._config is not None else None
        return lake if name is None else lake.at_release(name)

    @classmethod
    def present(
        cls,
        place: Settings | str | os.PathLike[str] | None = None,
        *,
        as_of: datetime | date | str | None = None,
        connections: Connections | None = None,
        locked: bool = False,
    ) -> Lake:
        """The lake as it is now, whatever release readers are served: loads and derivations work on it. See `open`."""
        config = place if isinstance(place, Settings) else settings() if place is None else settings_at(place)
        require_folder(config.home)
        moment = as_of if as_of is None or isinstance(as_of, datetime) else parse_moment(str(as_of))
        # The marts at hand are those of the settings' lake; of another bucket nobody has said where its marts are.
        is_elsewhere = place is not None and is_remote(config.lake) and config.lake != settings().lake
        limits = Limits(config.locked_memory, config.locked_seconds) if locked else None
        return cls(config.lake, None if is_elsewhere else present_marts(config), moment, connections, config, limits)

    def at_release(self, name: str) -> Lake:
        """This lake as a release serves it.

        Raises:
            ReleaseError: the lake has no such release, or its marts are in another home.
        """
        release = release_named(self, name)
        assert self._config is not None
        return self.pinned(release.pin, marts_file(self._config, release))

    def __repr__(self) -> str:
        at = f", as_of={self.as_of.isoformat()!r}" if self.as_of else ""
        return f"Lake({self.uri!r}{at})"

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
        return LakeTable(path, f"{self.uri}/{path}", self.storage_options, self.pin(path))

    def pinned(self, pins: Callable[[str], Pin | None], warehouse: Path | None) -> Lake:
        """This lake with some tables fixed at versions, by their paths, and other marts."""
        return Lake(self.uri, warehouse, self.as_of, self._connections, self._config, self.limits, pins)

    def select(self, name: str, connection: duckdb.DuckDBPyConnection, partitions: Partitions | None = None) -> str:
        """A DuckDB query for a table's rows (of `partitions`, if given), as of `self.as_of`.

        A stored table is read as it is, or by its contract's `read_by`. As of a moment it is filtered by its
        contract's `known_at`, or made again by `derived_by`; the latter answers for all partitions.
        A table without partitions is a view: always made by `derived_by`.
        """
        table = self.table(name)
        contract = table.contract
        if contract.derived_by and (self.as_of or not contract.partition_by):
            derive: Derivation = _imported(contract.derived_by)
            return derive(self, connection, table.name.split("/")[0])
        if contract.read_by:
            read: Reading = _imported(contract.read_by)
            return read(self, connection, table.name, partitions)
        if self.as_of is None:
            return table.snapshot().select(partitions)
        moment = moment_literal(self.as_of)
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

    def marts_files(self, pinned: Iterable[Release]) -> list[Path]:
        """The published marts of this home, and those of releases that it has made."""
        if self.warehouse is None or self._config is None:
            return []
        folder = release_folder(self._config)
        return [self.warehouse, *(folder / release.marts for release in pinned if release.marts)]

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """An in-memory DuckDB that can read this lake's files, closed at the end; it has no views yet (see
        `attach`).

        Raises:
            LakeUnavailable: within the block, where a file can't be read.
        """
        import duckdb

        try:
            if self._connections is None:
                with connect(self.uri) as connection:
                    yield connection
            else:
                with self._connections() as connection:
                    yield prepare(connection, self.uri)
        except duckdb.IOException as error:
            raise LakeUnavailable(f"{self.uri} can't be read: {error}") from error

    def sources(self, domain: str = "market") -> list[str]:
        """The sources that have any table of a domain in this lake; sorted."""
        return sorted(source for source, found in self._sources.items() if domain in found)

    @cached_property
    def _sources(self) -> dict[str, set[str]]:
        """Source -> the domains whose tables it has. The path is the catalogue: folders that a contract has."""
        known = contracts()
        # Of a source whose objects all failed there is nothing but the ledger's word.
        loaded = self.table("ingest_ledger").snapshot().partition_values("source")
        found: dict[str, set[str]] = {source: {"market"} for source in loaded}
        for source in folders(self.uri):
            if source not in known:
                names = folders(f"{self.uri}/{source}")
                found.setdefault(source, set()).update(known[name].domain for name in names if name in known)
        return {source: domains for source, domains in sorted(found.items()) if domains}

    def tables(self) -> list[tuple[str, str]]:
        """Every (schema, table) of the lake, as SQL names them."""
        return [(SHARED_SCHEMA, name) for name, contract in contracts().items() if not contract.domain] + [
            (source, name)
            for source, domains in self._sources.items()
            for name, contract in contracts().items()
            if contract.domain in domains
        ]

    def sql(self, query: str) -> duckdb.DuckDBPyRelation | None:
        """Runs a query over the lake's tables (`xetra.daily_bars`, `lake.quarantine`, ...) and the published
        marts (`marts.<model>`).

        Only the tables that the query names are opened. The result is a DuckDB relation (`.pl()`, `.df()`,
        `.arrow()`, `.show()`), None for a statement without one.

        Raises:
            duckdb.Error: the query is wrong; where a table is unknown, the message names those that there are.
            QueryNotAllowed: the lake is locked, and the query does more than select from its tables.
            QueryLimitReached: the lake is locked, and the query takes too long or too much memory; so do the methods of
                the relation.
        """
        import duckdb

        if self.limits is not None:
            known = self.sources()
            check_query(
                query,
                [*known, SHARED_SCHEMA, MARTS_SCHEMA, *(schema for schema, _ in self.tables())],
                [(source, macro) for source, macro in _CALL.findall(query) if source.lower() in known],
            )
        connection = connect(self.uri)
        named = self._named_in(query, connection)
        self._attach_marts(named, connection)
        # A query that names no table needs no lake.
        stored = [] if named == [] else self.tables()
        self.attach(connection, stored if named is None else [pair for pair in named if pair in stored])
        for source, macro in {(source.lower(), macro.lower()) for source, macro in _CALL.findall(query)}:
            if source in self.sources():
                _imported(_MACROS[macro])(self, connection, source)
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
            asked = [f"{schema}.{table}" for schema, table in [*(named or []), *_CALL.findall(query)]]
            macros = [f"{source}.{macro}" for source in self.sources() for macro in _MACROS]
            meant = "".join(did_you_mean(name, [*tables, *macros]) for name in asked if name not in tables)
            raise duckdb.CatalogException(
                f"{error}\nThe lake at {self.uri} has {', '.join(tables)}{meant or '.'} A source's tables appear with "
                f"its first load.{published}"
            ) from None

    def daily_bars(
        self,
        source: str,
        *,
        symbols: Collection[str] | str | None = None,
        start: date | str | None = None,
        end: date | str | None = None,
        adjusted: Adjustment = "none",
        convention: Convention = "crsp",
        as_of: date | str | None = None,
    ) -> duckdb.DuckDBPyRelation:
        """A source's daily bars with prices and volumes as traded, or adjusted for splits, or for dividends too.

        Args:
            symbols: of these only; of all by default.
            start: the first session wanted.
            end: the last session wanted.
            convention: how a dividend D scales the prices before its ex-date: `crsp` by 1 - D / the close before,
                `reinvest` by C / (C + D) with the close of the ex-date.
            as_of: the day whose basis is wanted: only actions with an ex-date up to it count. Today (or the lake's
                `as_of`) by default.

        Returns: the columns of daily_bars (without adjusted_as_of), prev_close and change_pct on the same basis, and
            adjustment, prices_as_of, dividend_convention.

        Raises:
            TableMissing: the lake has no such source.
        """
        if source not in self.sources():
            raise TableMissing(
                f"the lake at {self.uri} has no source {source!r}; it has {', '.join(self.sources()) or 'none'}"
                f"{did_you_mean(source, self.sources())}"
            )
        day = f", as_of := {literal(as_of)}::DATE" if as_of else ""
        choice = f"adjusted := {literal(adjusted)}, convention := {literal(convention)}{day}"
        wanted = [f"session >= {literal(start)}::DATE"] if start else []
        wanted += [f"session <= {literal(end)}::DATE"] if end else []
        if symbols is not None:
            wanted.append(predicate({"symbol": [symbols] if isinstance(symbols, str) else list(symbols)}))
        where = f" WHERE {' AND '.join(wanted)}" if wanted else ""
        found = self.sql(f'FROM "{source}".adjusted_daily_bars({choice}){where}')
        assert found is not None
        return found

    def _named_in(self, query: str, connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str]] | None:
        """The (schema, table) pairs that a query names, the schema "" where it names only the table; None for a query
        that can't be looked into (SHOW, several statements).
        """
        import duckdb

        try:
            names = connection.get_table_names(query, qualified=True)
        except duckdb.Error:
            # A macro that is still unknown keeps DuckDB from looking; whatever could be a table is named then.
            found = _QUALIFIED.findall(query) if _CALL.search(query) else None
            return found and [(schema.lower(), table.lower()) for schema, table in found]
        # DuckDB gives a table that the query renames as `schema.table AS alias`. Names have no case in SQL.
        parts = [name.partition(" AS ")[0].replace('"', "").lower().split(".")[-2:] for name in names]
        if not parts and not _CATALOG.search(query):
            return []
        return [(pair[-2] if len(pair) == 2 else "", pair[-1]) for pair in parts] or None

    def _attach_marts(self, named: list[tuple[str, str]] | None, connection: duckdb.DuckDBPyConnection) -> None:
        """Attaches the marts where a query may need them: the published ones, or those that it names built as of
        `self.as_of` (all of them where it can't be known which).

        Raises:
            MartsUnavailable: the query names a mart, and the published file is damaged.
        """
        wanted: frozenset[str] | None = None
        if named is not None and all(schema for schema, _ in named):
            wanted = frozenset(table for schema, table in named if schema == MARTS_SCHEMA)
            if not wanted:
                return
        if self.as_of is not None:
            if wanted not in self._marts_as_of:
                self._marts_as_of[wanted] = _imported(_MARTS_AS_OF)(self.as_of, wanted, self._config, self.pin)
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


def _imported(name: str) -> Any:
    """What `module:function` names: packages above the lake, which it must not import at the start."""
    module, function = name.split(":")
    return getattr(importlib.import_module(module), function)
