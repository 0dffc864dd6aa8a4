"""Asks PostgreSQL for its log and its tables: slots, exported snapshots, `pg_logical_slot_peek_binary_changes`.

Everything that sends SQL of the capture is here; what is made of the answers is in `capture`. The log is read over
ordinary SQL, so that looking at it twice gives the same changes until the slot is moved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import uuid4

from lakehouse.errors import DatabaseUnavailable, SourceError
from lakehouse.ingest.postgres.captured import CapturedDatabase
from lakehouse.ingest.postgres.pgoutput import Column, format_lsn, parse_lsn
from lakehouse.lake.sql import literal

if TYPE_CHECKING:
    import duckdb
    import psycopg

    from lakehouse.servers.postgres import Database

_LOCK_CLASS = 0x4C48
"""First number of the advisory lock that a capture holds; the second is the hash of the slot's name."""
_LOCK_S = 120
_SNAPSHOT_S = 300
"""How long a slot may wait for the transactions that were open when it was asked for."""
_MESSAGES_AT_ONCE = 5_000
_TEXT_FORMATS: tuple[LiteralString, ...] = (
    "SET datestyle = 'ISO, YMD'",
    "SET intervalstyle = 'postgres'",
    "SET timezone = 'UTC'",
    "SET extra_float_digits = 1",
    "SET bytea_output = 'hex'",
    "SET client_encoding = 'UTF8'",
)
"""A value has one text, whoever asks and however the server is configured."""


@dataclass(frozen=True)
class Slot:
    """A replication slot. `lag` is how many bytes of the log were not captured yet.

    Args:
        is_lost: the server has deleted log that it needs.
    """

    lsn: int
    lag: int
    is_lost: bool


@dataclass(frozen=True)
class ExportedSnapshot:
    """The state of the database at a position in its log."""

    name: str
    lsn: int


@dataclass(frozen=True)
class Server:
    """A connection for a capture's questions."""

    of: CapturedDatabase
    database: Database
    connection: psycopg.Connection

    @property
    def system(self) -> str:
        """Identifies the cluster."""
        return str(self._value("SELECT system_identifier::text FROM pg_control_system()"))

    @property
    def has_logical_log(self) -> bool:
        return self._value("SELECT current_setting('wal_level')") == "logical"

    def log_end(self) -> int:
        """Where the log ends now, all of it on disk.

        What isn't followed by a commit, such as a reader's cleaning of pages, gets to the disk by whole pages, so that
        the last record there may be cut. Reading it would wait for the rest, up to half a minute on a quiet server: an
        empty message is committed instead.
        """
        if not self._value("SELECT pg_current_wal_flush_lsn() = pg_current_wal_insert_lsn()"):
            self.connection.execute("SELECT pg_logical_emit_message(true, 'lakehouse', '')")
        return parse_lsn(self._value("SELECT pg_current_wal_flush_lsn()::text"))

    def slot(self) -> Slot | None:
        """The slot; None if there is none.

        Raises:
            SourceError: the slot belongs to another database or plugin.
        """
        row = self.connection.execute(
            """
            SELECT plugin, database = current_database(), confirmed_flush_lsn::text, wal_status,
                coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn), 0)::bigint
            FROM pg_replication_slots WHERE slot_name = %s
            """,
            [self.of.slot],
        ).fetchone()
        if row is None:
            return None
        plugin, is_here, lsn, status, lag = row
        if plugin != "pgoutput" or not is_here:
            raise SourceError(
                f"the replication slot {self.of.slot} belongs to another database or to {plugin}: give the source "
                "another name of a slot in its defs.yaml"
            )
        return Slot(parse_lsn(lsn or "0/0"), lag, status == "lost" or lsn is None)

    def drop_slot(self) -> None:
        self.connection.execute("SELECT pg_drop_replication_slot(%s)", [self.of.slot])

    def ensure_publication(self) -> None:
        """Makes the publication if there is none.

        Raises:
            SourceError: the role may not, or a table isn't there.
        """
        from psycopg import sql

        known = "SELECT 1 FROM pg_publication WHERE pubname = %s"
        if self.connection.execute(known, [self.of.publication]).fetchone():
            return
        names = sql.SQL(", ").join(sql.Identifier(self.of.schema, table.name) for table in self.of.tables)
        publication = sql.Identifier(self.of.publication)
        self.connection.execute(sql.SQL("CREATE PUBLICATION {} FOR TABLE {}").format(publication, names))

    @contextmanager
    def exported_snapshot(self, *, slot: str | None) -> Iterator[ExportedSnapshot]:
        """A snapshot, and the slot `slot` that begins where it was taken (None: a slot that ends with the context)."""
        import psycopg
        from psycopg import sql

        if not self._value("SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user"):
            raise SourceError(f"{self.database}: the role may not read the log. {_rights(self.of)}")
        name = slot or f"{self.of.slot}_{self.connection.info.backend_pid}"
        kind = sql.SQL("" if slot else "TEMPORARY")
        command = sql.SQL("CREATE_REPLICATION_SLOT {} {} LOGICAL pgoutput (SNAPSHOT 'export')")
        # The snapshot is gone with the next command on the connection that exported it.
        with psycopg.connect(self.database.url, replication="database", autocommit=True) as exporting:
            exporting.execute(sql.SQL("SET statement_timeout = {}").format(sql.Literal(f"{_SNAPSHOT_S}s")))
            row = exporting.execute(command.format(sql.Identifier(name), kind)).fetchone()
            assert row is not None
            yield ExportedSnapshot(row[2], parse_lsn(row[1]))

    @contextmanager
    def present_snapshot(self) -> Iterator[ExportedSnapshot]:
        """A snapshot without a slot: the position is one that it doesn't go beyond."""
        import psycopg

        lsn = self.log_end()
        with psycopg.connect(self.database.url, autocommit=True) as exporting:
            exporting.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            row = exporting.execute("SELECT pg_export_snapshot()").fetchone()
            assert row is not None
            yield ExportedSnapshot(row[0], lsn)
            exporting.execute("ROLLBACK")

    def peek(self, *, limit: int | None, upto: int | None = None) -> Iterator[bytes]:
        """The messages of the log after the slot's position, in order: whole transactions, as many as have about
        `limit` changes, and none that ends after `upto` (default: the log's end). The slot stays where it is.
        """
        upto = self.log_end() if upto is None else upto
        with self.connection.transaction(), self.connection.cursor("capture", binary=True) as cursor:
            cursor.itersize = _MESSAGES_AT_ONCE
            cursor.execute(
                """
                SELECT data FROM pg_logical_slot_peek_binary_changes(
                    %s::name, %s::pg_lsn, %s::int, 'proto_version', '1', 'publication_names', %s
                )
                """,
                [self.of.slot, format_lsn(upto), limit, f'"{self.of.publication}"'],
            )
            for (data,) in cursor:
                yield data

    def move_slot(self, lsn: int) -> None:
        """Lets the server forget the log before a position."""
        self.connection.execute("SELECT pg_replication_slot_advance(%s, %s::pg_lsn)", [self.of.slot, format_lsn(lsn)])

    @property
    def has_schema(self) -> bool:
        """Whether the database has the schema whose tables are captured."""
        row = self.connection.execute("SELECT to_regnamespace(quote_ident(%s))", [self.of.schema]).fetchone()
        return row is not None and row[0] is not None

    def require_schema(self) -> None:
        """Raises SourceError where the database has no such schema yet."""
        if not self.has_schema:
            missing = f'schema "{self.of.schema}" does not exist'
            raise SourceError(f"{self.database}: {missing}. Make the tables of the schema {self.of.schema} first")

    def columns(self) -> dict[str, tuple[Column, ...]]:
        """The columns of each table in the schema."""
        rows = self.connection.execute(
            """
            SELECT c.relname, a.attname, a.atttypid::bigint, a.atttypmod, false FROM pg_attribute a
            JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
            ORDER BY c.relname, a.attnum
            """,
            [self.of.schema],
        ).fetchall()
        found: dict[str, tuple[Column, ...]] = {}
        for table, *column in rows:
            found[table] = (*found.get(table, ()), Column(*column))
        return found

    def _value(self, query: LiteralString) -> Any:
        row = self.connection.execute(query).fetchone()
        assert row is not None
        return row[0]


@contextmanager
def serving(of: CapturedDatabase, *, locked: bool) -> Iterator[Server]:
    """Connects to a database for questions; `locked` keeps other captures by the same slot out until the end.

    Raises:
        DatabaseUnavailable: the server doesn't answer, or ends in the middle.
        SourceError: the role lacks a right, or the database lacks something; the message names it.
    """
    with of.database() as database, explained(of, database), database.connect(autocommit=True) as connection:
        for command in _TEXT_FORMATS:
            connection.execute(command)
        if locked:
            connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{_LOCK_S}s"])
            connection.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", [_LOCK_CLASS, of.slot])
        yield Server(of, database, connection)


@contextmanager
def explained(of: CapturedDatabase, database: Database) -> Iterator[None]:
    """Turns errors of the database into ones that say what to do."""
    import duckdb
    import psycopg
    from psycopg import errors

    try:
        yield
    except errors.LockNotAvailable as error:
        raise DatabaseUnavailable(
            f"another capture by the slot {of.slot} at {database} has been running for {_LOCK_S} s",
            "Wait until it ends, or end it",
        ) from error
    except errors.QueryCanceled as error:
        raise DatabaseUnavailable(
            f"{database} couldn't give a snapshot within {_SNAPSHOT_S} s, since a transaction has been open that long",
            "End it: pg_stat_activity shows the oldest xact_start",
        ) from error
    except errors.InsufficientPrivilege as error:
        raise SourceError(f"{database}: {_said(error)}. {_rights(of)}") from error
    except (errors.UndefinedTable, errors.UndefinedObject, errors.InvalidSchemaName) as error:
        raise SourceError(f"{database}: {_said(error)}. Make the tables of the schema {of.schema} first") from error
    except errors.ConfigurationLimitExceeded as error:
        raise SourceError(f"{database}: {_said(error)}. Raise max_replication_slots, or drop an unused slot") from error
    except psycopg.Error as error:
        raise DatabaseUnavailable(
            f"{database} gave up while it was captured: {_said(error)}", "Capture again"
        ) from error
    except duckdb.Error as error:
        if "Postgres" not in str(error) and "server" not in str(error):
            raise
        cause = str(error).splitlines()[0]
        raise DatabaseUnavailable(f"{database} gave up while it was read: {cause}", "Capture again") from error


def _rights(of: CapturedDatabase) -> str:
    return f"It needs REPLICATION, USAGE on the schema {of.schema} and SELECT on its tables"


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def attached(connection: duckdb.DuckDBPyConnection, server: Server, snapshot: ExportedSnapshot) -> Iterator[str]:
    """Attaches the database to a DuckDB at a snapshot, by DuckDB's scanner; yields the name of the attached catalog."""
    import duckdb
    import duckdb_extension_postgres_scanner

    packaged = Path(duckdb_extension_postgres_scanner.__file__).parent / "extensions" / f"v{duckdb.__version__}"
    connection.load_extension(str(packaged / "postgres_scanner.duckdb_extension"))
    # All connections of this process share the catalogs.
    name = f"captured_{uuid4().hex}"
    connection.execute(f"ATTACH {literal(server.database.url)} AS {name} (TYPE postgres, READ_ONLY)")
    try:
        connection.execute("BEGIN")
        for command in (f"SET TRANSACTION SNAPSHOT '{snapshot.name}'", *_TEXT_FORMATS):
            connection.execute(f"CALL postgres_execute('{name}', {literal(command)})")
        yield name
    finally:
        # Where the server is gone, a transaction that DuckDB itself ends would end this process.
        for command in ("ROLLBACK", f"DETACH {name}"):
            with suppress(duckdb.Error):
                connection.execute(command)


def text_query(schema: str, table: str, columns: Sequence[str]) -> str:
    """The query, for PostgreSQL, of a table's columns as texts."""
    quoted = [f'"{name.replace(chr(34), chr(34) * 2)}"' for name in columns]
    return f'SELECT {", ".join(f"{name}::text AS {name}" for name in quoted)} FROM "{schema}"."{table}"'
