"""Compares a database with the lake, row for row: they are equal at the position up to which the lake has its log.

The database goes on meanwhile. Rows with changes in the log after that position are left out, since the lake can't have
them yet; all others must be equal. Nothing is written, neither to the lake nor to the slot.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.errors import SourceError
from lakehouse.ingest.postgres.captured import CapturedDatabase, CapturedTable
from lakehouse.ingest.postgres.ledger import Batch, current_images, last_batch
from lakehouse.ingest.postgres.log_batch import LogBatch
from lakehouse.ingest.postgres.pgoutput import decode
from lakehouse.ingest.postgres.rows import META, images
from lakehouse.ingest.postgres.server import Server, attached, serving
from lakehouse.ingest.postgres.store import BatchStore
from lakehouse.ingest.pseudonyms import VARIABLE
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Relation, literal

if TYPE_CHECKING:
    import duckdb

_SHOWN = 10
_PERSONAL = f"other personal data, or they were hashed with another {VARIABLE}"


@dataclass(frozen=True)
class Difference:
    """A row that differs: its key as JSON, and what of it is where."""

    table: str
    key: str
    found: str


@dataclass(frozen=True)
class TableComparison:
    """A table's rows in the database and in the lake, how many of them differ, and how many have later changes."""

    name: str
    there: int
    here: int
    differing: int
    pending: int
    shown: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The comparison of a database with the lake.

    Args:
        position: in the log, up to which they were compared.
        lag: bytes of log that weren't captured yet; None without a slot.
    """

    position: str
    tables: list[TableComparison] = field(default_factory=list)
    stopped: dict[str, str] = field(default_factory=dict)
    lag: int | None = None

    @property
    def is_equal(self) -> bool:
        """Whether all rows are equal, and no table has stopped."""
        return not self.stopped and not any(table.differing for table in self.tables)


def verify(lake: Lake, of: CapturedDatabase) -> Comparison:
    """Compares every table.

    Raises:
        DatabaseUnavailable: the database doesn't answer.
        SourceError: nothing was captured yet.
    """
    with serving(of, locked=True) as server, lake.connect() as connection:
        last = last_batch(lake, connection, of.source)
        if last is None:
            raise SourceError(f"nothing of {of.source} was captured yet: run lakehouse {of.source} capture")
        slot = server.slot()
        tables = []
        with tempfile.TemporaryDirectory(prefix="lakehouse-verify-") as folder:
            with server.present_snapshot() as snapshot:
                # After the snapshot was taken: the log has all that the snapshot sees.
                pending = _pending(server, Path(folder), last) if slot is not None else None
                with attached(connection, server, snapshot) as catalog:
                    store = BatchStore(
                        lake, of, connection, Path(folder), last, last.number, datetime.now(UTC), last.captured_at, ""
                    )
                    spooled = {
                        table.name: store.spool_snapshot(table, catalog, snapshot.lsn)
                        for table in of.tables
                        if table.name not in last.stopped
                    }
            for table in of.tables:
                if table.name in spooled:
                    tables.append(_compared(lake, connection, store, table, spooled[table.name], pending))
        lag = slot.lag if slot is not None else None
        return Comparison(last.position, tables, dict(last.stopped), lag)


def _pending(server: Server, folder: Path, last: Batch) -> LogBatch:
    """The changes after the lake's position."""
    pending = LogBatch(server.of, folder, last.lsn, last.stopped)
    for data in server.peek(limit=None):
        if (message := decode(data)) is not None:
            pending.add(message)
    return pending


def _impersonal(image: str, table: CapturedTable) -> str:
    """An expression for an image without personal data."""
    without = json.dumps({column.name: None for column in table.columns if column.pii})
    return f"json_merge_patch({image}::JSON, {literal(without)}::JSON)::VARCHAR"


def _compared(
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    store: BatchStore,
    table: CapturedTable,
    files: Relation,
    pending: LogBatch | None,
) -> TableComparison:
    of = store.of
    connection.execute("CREATE OR REPLACE TEMP TABLE pending (key VARCHAR, is_row BOOLEAN)")
    if pending is not None and table in pending.tables:
        later = images(table, pending.relation(connection, table), of.pii_key())
        connection.execute(f"INSERT INTO pending SELECT {META}.key, {META}.op <> 'truncate' FROM ({later})")
    refused = store.judge(table, files)
    here = current_images(lake, connection, of.source, table, store.last)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE here AS {here}")
    counted = connection.execute(
        f"SELECT (SELECT count(*) FROM {files}), (SELECT count(*) FROM here),"
        " (SELECT count(DISTINCT key) FROM pending), (SELECT count(*) FROM pending WHERE NOT is_row)"
    ).fetchone()
    assert counted is not None
    in_database, in_lake, later_rows, truncations = counted
    left_out = "SELECT key FROM pending" + (f" UNION ALL SELECT {META}.key FROM broken" if refused else "")
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE differing AS
        SELECT coalesce(there.key, here.key) AS key,
            CASE WHEN here.key IS NULL THEN 'only in the database' WHEN there.key IS NULL THEN 'only in the lake'
                WHEN {_impersonal("there.image", table)} = {_impersonal("here.image", table)} THEN {literal(_PERSONAL)}
                ELSE 'other values' END AS found
        FROM (SELECT {META}.key AS key, {META}.image AS image FROM {files}) AS there
        FULL JOIN here ON there.key = here.key
        WHERE there.image IS DISTINCT FROM here.image AND {int(not truncations)} = 1
            AND coalesce(there.key, here.key) NOT IN (SELECT key FROM ({left_out}) WHERE key IS NOT NULL)
        """
    )
    rows: Sequence[tuple[str, str]] = connection.execute(f"FROM differing ORDER BY key LIMIT {_SHOWN}").fetchall()
    total = connection.execute("SELECT count(*) FROM differing").fetchone()
    assert total is not None
    shown = tuple(Difference(table.name, key, found) for key, found in rows)
    return TableComparison(table.name, in_database, in_lake, total[0], later_rows, shown)
