"""The capture ledger: which batches of a database's changes count.

A batch's changes are committed table by table, and count once the ledger names the batch, in one commit over all
tables. So readers see the state after a whole transaction, and never that of a capture which was killed. The ingest
ledger can't say this: it counts an object of one dataset at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from lakehouse.errors import StaleSnapshot
from lakehouse.ingest.postgres.captured import LEDGER, CapturedTable
from lakehouse.ingest.postgres.pgoutput import format_lsn
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Query, timestamp_literal

if TYPE_CHECKING:
    import duckdb

_BATCHES = "batches"
_TICK = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Batch:
    """A batch that counts; `lsn` is the position up to which the lake equals the database."""

    number: int
    lsn: int
    system: str
    stopped: Mapping[str, str]
    committed_at: datetime
    captured_at: datetime

    @property
    def position(self) -> str:
        """The position as PostgreSQL writes it."""
        return format_lsn(self.lsn)


@dataclass(frozen=True)
class Counts:
    """Changes of a table in a batch, and those of them that broke the contract."""

    changes: int = 0
    quarantined: int = 0


def last_batch(lake: Lake, connection: duckdb.DuckDBPyConnection, source: str) -> Batch | None:
    """The last batch of a source (as of `lake.as_of`); None before the first one."""
    snapshot = lake.table(f"{source}/{LEDGER}").snapshot()
    if lake.as_of is None:
        # A file per batch: the files' statistics name the one to open.
        newest = snapshot.max_value("batch")
        rows = snapshot.select() if newest is None else snapshot.select_where(f"batch >= {newest}")
    else:
        known = f"captured_at <= {timestamp_literal(lake.as_of)}::TIMESTAMPTZ"
        rows = Query(f"SELECT * FROM ({snapshot.select()}) WHERE {known}")
    row = connection.execute(
        f"""
        SELECT batch, lsn, system, stopped, committed_at, captured_at FROM ({rows}) ORDER BY batch DESC LIMIT 1
        """
    ).fetchone()
    if row is None:
        return None
    number, lsn, system, stopped, committed_at, captured_at = row
    reasons = {each["name"]: each["reason"] for each in stopped}
    return Batch(number, lsn, system, reasons, committed_at.astimezone(UTC), captured_at.astimezone(UTC))


def next_moment(last: Batch | None) -> datetime:
    """When the next batch is captured: now, and later than the last one even if the clock went back."""
    now = datetime.now(UTC)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)
    return now if last is None else max(now, last.captured_at + _TICK)


def append_batch(lake: Lake, source: str, row: Mapping[str, Any]) -> None:
    """Makes a batch count.

    Raises:
        StaleSnapshot: another capture has made a batch of this number count.
    """
    import pyarrow as pa

    table = lake.table(f"{source}/{LEDGER}")
    snapshot = table.snapshot()
    with lake.connect() as connection:
        last = last_batch(lake, connection, source)
    if (last.number if last else 0) + 1 != row["batch"]:
        raise StaleSnapshot(f"{table.name}: another capture has made batch {row['batch']} count")
    snapshot.append(pa.Table.from_pylist([dict(row)], schema=table.contract.arrow_schema), [_BATCHES])


def counted_changes(
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    source: str,
    table: CapturedTable,
    last: Batch | None = None,
    after: tuple[int, int] = (0, 0),
) -> Query:
    """The query for the changes of a table that count (as of `lake.as_of`).

    Args:
        last: the last batch, if the caller has looked it up.
        after: only those after the position in a batch.
    """
    stored = lake.table(f"{source}/{table.changes}").snapshot()
    last = last or last_batch(lake, connection, source)
    if last is None:
        return Query(f"SELECT * FROM ({stored.select()}) WHERE false")
    # A table's rows after its last batch are of a capture that was killed, or is running.
    reached = f"(batch < {last.number} OR batch = {last.number} AND lsn <= {last.lsn})"
    # The batch alone is in the files' statistics: a file without later ones isn't opened.
    rows = stored.select_where(f"batch >= {after[0]}") if after[0] else stored.select()
    number, lsn = after
    return Query(f"SELECT * FROM ({rows}) WHERE {reached} AND (batch > {number} OR batch = {number} AND lsn > {lsn})")


def latest_changes(changes: Query) -> Query:
    """The query for the last change of each row since the table was last emptied: key, op, image, and `part`: the day
    of the row's first change since it was last deleted.
    """
    order = "row(batch, lsn, seq)"
    return Query(f"""
        WITH changes AS NOT MATERIALIZED ({changes}),
        emptied AS (SELECT max({order}) AS emptied_at FROM changes WHERE op = 'truncate'),
        rows AS NOT MATERIALIZED (
            SELECT changes.* FROM changes, emptied
            WHERE key IS NOT NULL AND (emptied_at IS NULL OR {order} > emptied_at)
        ),
        deleted AS (SELECT key, max({order}) AS deleted_at FROM rows WHERE op = 'delete' GROUP BY key)
        SELECT key, newest.op AS op, newest.image AS image, part FROM (
            SELECT rows.key, arg_max(struct_pack(op := op, image := image), {order}) AS newest,
                arg_min(day, {order}) FILTER (deleted_at IS NULL OR {order} > deleted_at) AS part
            FROM rows LEFT JOIN deleted ON rows.key = deleted.key GROUP BY rows.key
        )
    """)


def present_rows(changes: Query) -> Query:
    """The query for the rows that changes lead to: key, image and part."""
    return Query(f"SELECT key, image, part FROM ({latest_changes(changes)}) WHERE op <> 'delete'")


def current_images(
    lake: Lake, connection: duckdb.DuckDBPyConnection, source: str, table: CapturedTable, last: Batch | None = None
) -> Query:
    """The query for a table's rows at the last batch: key, image and part."""
    return present_rows(counted_changes(lake, connection, source, table, last))
