"""Opens the published marts, a DuckDB file that each publication replaces.

A program that opens the file for writing, DuckDB's default, can disturb readers in two ways. While it has the file
open, DuckDB refuses all others. If it is killed, its write-ahead log stays beside the file, and later readers see what
it wrote. In both cases a copy of the file without the log is read, which is what was published.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lakehouse.errors import MartsUnavailable
from lakehouse.lake.sql import literal

if TYPE_CHECKING:
    import duckdb

NOTES = "reading"
"""The schema, in a file of marts that is being built, with what its models need to know of this run."""
_REPLACED = "the next publication replaces it: run `lakehouse rebuild` for any source"
_LOCKED = "Could not set lock on file"
_log = logging.getLogger(__name__)


def log_of(path: Path) -> Path:
    """DuckDB's write-ahead log of a file."""
    return path.with_name(f"{path.name}.wal")


@dataclass(frozen=True)
class Publication:
    """The state of the published file: its time, and the reason if it can't be read as published."""

    at: datetime | None
    fault: str | None

    def __str__(self) -> str:
        if self.fault:
            return self.fault
        return f"published {self.at:%Y-%m-%d %H:%M:%S} UTC" if self.at else "never published"


def found_publication(path: Path) -> Publication:
    """Inspects the published file without reading its rows."""
    import duckdb

    if not path.exists() and not path.is_symlink():
        return Publication(None, None)
    if not path.is_file():
        return Publication(None, f"{path} is not a file; move it away, and run `lakehouse rebuild` for any source")
    at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    if log_of(path).exists():
        return Publication(at, f"published, but another program's log lies beside {path}; {_REPLACED}")
    try:
        with duckdb.connect() as connection:
            _attach(connection, path, "published")
            schemas = connection.execute(
                "SELECT count(*) FROM duckdb_schemas() WHERE (database_name, schema_name) = ('published', 'marts')"
            ).fetchall()
    except duckdb.Error as error:
        if _LOCKED in str(error):
            return Publication(at, f"published, but another program has {path} open for writing; close it there")
        return Publication(at, f"{path} can't be opened, it is damaged or not DuckDB's; {_REPLACED}")
    if schemas == [(0,)]:
        return Publication(at, f"{path} is another program's database, without the schema marts; {_REPLACED}")
    return Publication(at, None)


def attach_published(connection: duckdb.DuckDBPyConnection, path: Path, name: str) -> None:
    """Attaches the published file to `connection` as the catalog `name`, read-only.

    Raises:
        MartsUnavailable: the file is damaged.
    """
    import duckdb

    try:
        if log_of(path).exists():
            _attach_copy(connection, path, name, f"{log_of(path)}, another program's log, lies beside it")
            return
        try:
            _attach(connection, path, name)
        except duckdb.IOException as error:
            if _LOCKED not in str(error):
                raise
            _attach_copy(connection, path, name, "another program has it open for writing")
    except duckdb.Error as error:
        raise MartsUnavailable(
            f"the published marts in {path} can't be opened: {error}. "
            "The next publication replaces the file: run `lakehouse rebuild` for any source"
        ) from error


def _attach(connection: duckdb.DuckDBPyConnection, path: Path, name: str) -> None:
    connection.execute(f"ATTACH {literal(str(path))} AS {name} (READ_ONLY)")


def _attach_copy(connection: duckdb.DuckDBPyConnection, path: Path, name: str, why: str) -> None:
    _log.warning("Reading a copy of %s as it was published: %s. Open the file read-only.", path, why)
    with TemporaryDirectory(prefix="marts-") as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        # DuckDB keeps the file open, so the name can be deleted.
        _attach(connection, copy, name)


def has_table(connection: duckdb.DuckDBPyConnection, database: str, schema: str, table: str) -> bool:
    """Whether an attached database has a table."""
    named = ", ".join(map(literal, (database, schema, table)))
    found = connection.execute(
        f"SELECT 1 FROM duckdb_tables() WHERE (database_name, schema_name, table_name) = ({named})"
    )
    return found.fetchone() is not None


def noted(connection: duckdb.DuckDBPyConnection, name: str) -> str | None:
    """The relation of a note in the file that a connection is opened on; None if there is none."""
    row = connection.execute("SELECT current_database()").fetchone()
    assert row is not None
    return f'"{row[0]}".{NOTES}.{name}' if has_table(connection, row[0], NOTES, name) else None


def recorded_versions(path: Path) -> dict[tuple[str, str], dict[str, int | None]] | None:
    """The versions of the tables from which a published file was built, by part of the marts and source (None: not yet
    written). None if an earlier version of Lakehouse published it; empty if the file is damaged.
    """
    found: dict[tuple[str, str], dict[str, int | None]] = {}
    query = "SELECT part, source, table_name, version FROM published.publication.inputs"
    rows = recorded(path, {"inputs": query})["inputs"]
    for part, source, name, version in rows or []:
        found.setdefault((part, source), {})[name] = version
    return None if rows is None else found


def kept_versions(path: Path) -> dict[str, set[int]]:
    """The versions of tables that the next publication needs because their sources are held back."""
    query = """
        SELECT DISTINCT inputs.table_name, inputs.version
        FROM published.publication.inputs JOIN published.marts.held_back USING (part, source)
        WHERE inputs.version IS NOT NULL
    """
    found: dict[str, set[int]] = {}
    for name, version in recorded(path, {"inputs": query})["inputs"] or []:
        found.setdefault(name, set()).add(version)
    return found


def recorded(path: Path, queries: Mapping[str, str]) -> dict[str, list[tuple[Any, ...]] | None]:
    """The rows of queries over a published file, by the table of its schema `publication` that each needs; None where
    the file has no such record, and no rows of a file that is missing or damaged.

    Args:
        queries: they name the file `published`.
    """
    import duckdb

    if path.is_file():
        # Starting a DuckDB and attaching the file take longer than the queries.
        with duckdb.connect() as connection, suppress(MartsUnavailable, duckdb.Error):
            attach_published(connection, path, "published")
            return {
                table: connection.execute(query).fetchall()
                if has_table(connection, "published", "publication", table)
                else None
                for table, query in queries.items()
            }
    return {table: [] for table in queries}
