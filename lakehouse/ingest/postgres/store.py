"""Stores a batch's rows: those that keep their table's contract as changes, the others in the quarantine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.ingest.entered import QUARANTINE
from lakehouse.ingest.load import append_new_objects
from lakehouse.ingest.postgres.captured import CapturedDatabase, CapturedTable
from lakehouse.ingest.postgres.ledger import Batch, Counts, current_images
from lakehouse.ingest.postgres.rows import META, images, typed, untyped_reasons
from lakehouse.ingest.postgres.server import text_query
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Query, Relation, literal, timestamp_literal
from lakehouse.lake.table import LakeTable, retry_when_stale
from lakehouse.lake.validation import good, predicates_of, reasons

if TYPE_CHECKING:
    import duckdb

_READ_AT_ONCE = 50_000
_BAD_KEYS = f"SELECT {META}.key AS key FROM broken"
_EXEMPT = "op IN ('delete', 'truncate')"
"""A row that is deleted needn't keep the contract: it may be one that was quarantined."""


@dataclass(frozen=True)
class BatchStore:
    """Where the rows of a batch go.

    Args:
        folder: for files on the way; the caller deletes it.
        last: the batch before.
        moment: when its last transaction was committed, or its snapshot was taken.
        checkpoints: the cluster and the slot, in the names of the tables' app transactions.
    """

    lake: Lake
    of: CapturedDatabase
    connection: duckdb.DuckDBPyConnection
    folder: Path
    last: Batch | None
    number: int
    moment: datetime
    captured_at: datetime
    checkpoints: str

    def add_changes(self, table: CapturedTable, rows: Relation) -> Counts:
        """Stores the changes of a table from the log, without those that the table has already."""
        files = self._spool(table, "changes", images(table, rows, self.of.pii_key()))
        bad = self.judge(table, files)
        self._quarantine(
            table,
            f"""
            SELECT printf('%016X', {META}.lsn) AS object_version, {META}.seq AS row_number, {META}.image AS row,
                {META}.committed_at AS published_at, reasons FROM broken
            """,
        )
        kept = f"SELECT {META}.* FROM {files}"
        if bad:
            kept = f"""
                SELECT * FROM ({kept}) ANTI JOIN (SELECT {META}.lsn AS lsn, {META}.seq AS seq FROM broken)
                USING (lsn, seq)
            """
        self._append(table, Query(kept), self._one(f"SELECT max({META}.lsn) FROM {files}"))
        return Counts(self._one(f"SELECT count(*) FROM {files}"), bad)

    def add_snapshot(self, table: CapturedTable, catalog: str, lsn: int) -> Counts:
        """Stores the differences between a table of the database, at a snapshot, and the lake's."""
        files = self.spool_snapshot(table, catalog, lsn)
        bad = self.judge(table, files)
        quarantined = self._quarantine_new(table) if bad else 0
        good_rows = f"SELECT {META}.* FROM {files}"
        if bad:
            good_rows = f"SELECT * FROM ({good_rows}) ANTI JOIN ({_BAD_KEYS}) USING (key)"
        changes = self._spool(table, "differences", self._differences(table, good_rows, lsn)) if self.last else None
        found = changes or Relation(f"({good_rows})")
        count = self._one(f"SELECT count(*) FROM {found}")
        if count:
            self._append(table, Query(f"SELECT *, row_number() OVER () AS seq FROM {found}"), lsn)
        return Counts(count + quarantined, quarantined)

    def spool_snapshot(self, table: CapturedTable, catalog: str, lsn: int) -> Relation:
        """Writes a table of the database, at a snapshot, to a file."""
        texts = text_query(self.of.schema, table.name, [column.name for column in table.columns])
        meta = f"op := 'snapshot', lsn := {lsn}::BIGINT, xid := NULL::BIGINT, committed_at := {self._moment}"
        rows = f"(SELECT struct_pack({meta}) AS {META}, * FROM postgres_query('{catalog}', {literal(texts)}))"
        return self._spool(table, "snapshot", images(table, Relation(rows), self.of.pii_key()))

    def _differences(self, table: CapturedTable, there: str, lsn: int) -> Query:
        """The query for the changes that make the lake's rows those of the database; rows that break the contract stay
        as they are in the lake.
        """
        here = current_images(self.lake, self.connection, self.of.source, table, self.last)
        return Query(f"""
            SELECT
                CASE WHEN here.key IS NULL THEN 'insert' WHEN there.key IS NULL THEN 'delete' ELSE 'update' END AS op,
                {lsn}::BIGINT AS lsn, NULL::BIGINT AS xid, {self._moment} AS committed_at,
                coalesce(there.key, here.key) AS key, coalesce(there.image, here.image) AS image
            FROM ({there}) AS there FULL JOIN (FROM ({here}) ANTI JOIN ({_BAD_KEYS}) USING (key)) AS here
            ON there.key = here.key WHERE there.image IS DISTINCT FROM here.image
        """)

    def _quarantine_new(self, table: CapturedTable) -> int:
        """Quarantines rows of a snapshot that broke the contract. One that stays so is in every snapshot, and was
        received once. Returns how many are new.
        """
        stored = self.lake.table(QUARANTINE).snapshot().select({"source": [self.of.source]})
        last = "false"
        if self.last is not None:
            last = f"ingested_at <= {timestamp_literal(self.last.captured_at)}::TIMESTAMPTZ"
        known = f"SELECT object_version FROM ({stored}) WHERE object = {literal(table.name)} AND {last}"
        new = f"""
            SELECT * FROM (
                SELECT 'snapshot-' || md5({META}.key || {META}.image) AS object_version, 1::BIGINT AS row_number,
                    {META}.image AS row, {META}.committed_at AS published_at, reasons FROM broken
            ) WHERE object_version NOT IN ({known})
        """
        self._quarantine(table, new)
        return self._one(f"SELECT count(*) FROM ({new})")

    def _spool(self, table: CapturedTable, what: str, rows: Query) -> Relation:
        """Writes the rows of a query to a file, and returns the file as a relation."""
        path = self.folder / f"{table.name}-{what}-spooled.parquet"
        self.connection.execute(f"COPY ({rows}) TO {literal(str(path))} (FORMAT parquet)")
        return Relation(f"read_parquet({literal(str(path))})")

    def judge(self, table: CapturedTable, rows: Relation) -> int:
        """Fills the table `broken` with the rows that break the contract, and `reasons`; returns how many."""
        day = f"({META}.committed_at AT TIME ZONE 'UTC')::DATE"
        view = f'SELECT *, {day} AS "{table.part}" FROM ({typed(table, rows)}) WHERE NOT {META}.{_EXEMPT}'
        self.connection.execute(f"CREATE OR REPLACE TEMP VIEW judged AS {view}")
        rules = {**untyped_reasons(table), **predicates_of(table.contract, self.connection, "judged")}
        self.connection.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE broken AS
            SELECT {META}, {reasons(rules)} AS reasons FROM judged WHERE NOT ({good(rules)})
            """
        )
        return self._one("SELECT count(*) FROM broken")

    def _quarantine(self, table: CapturedTable, rows: str) -> None:
        """Stores refused rows: object_version, row_number, row, published_at, reasons."""
        contract = self.lake.table(QUARANTINE).contract
        captured = f"{timestamp_literal(self.captured_at)}::TIMESTAMPTZ"
        columns = ", ".join(f'"{name}"' for name in contract.column_names)
        found = self.connection.sql(
            f"""
            SELECT {columns} FROM (
                SELECT *, {literal(self.of.source)} AS source, DATE {literal(self.captured_at.date())} AS load_date,
                    {literal(table.name)} AS object, (published_at AT TIME ZONE 'UTC')::DATE AS session,
                    {captured} AS ingested_at FROM ({rows})
            )
            """
        ).to_arrow_table()
        append_new_objects(
            self.lake, QUARANTINE, found.cast(contract.arrow_schema), "source", [self.of.path(table.name)]
        )

    def _append(self, table: CapturedTable, rows: Query, upto: int) -> None:
        """Appends changes in one commit, with the position up to which the table has the log then."""
        target = self.lake.table(self.of.path(table.changes))
        checkpoint = f"{self.checkpoints}:{table.name}"
        captured = f"{timestamp_literal(self.captured_at)}::TIMESTAMPTZ"

        def work() -> None:
            snapshot = target.snapshot()
            done = snapshot.checkpoint(checkpoint)
            # A capture that was killed may have committed some of these already.
            wanted = f"SELECT * FROM ({rows}) WHERE lsn > {-1 if done is None else done}"
            full = f"""
                SELECT (committed_at AT TIME ZONE 'UTC')::DATE AS day, *, {self.number}::BIGINT AS batch,
                    {captured} AS captured_at FROM ({wanted})
            """
            days = self.connection.execute(f"SELECT DISTINCT day::VARCHAR FROM ({full})").fetchall()
            if not days:
                return
            columns = ", ".join(f'"{name}"' for name in target.contract.column_names)
            reader = self.connection.execute(f"SELECT {columns} FROM ({full})").to_arrow_reader(_READ_AT_ONCE)
            snapshot.append_stream(reader, [day for (day,) in days], {checkpoint: upto})

        retry_when_stale(work)

    @property
    def _moment(self) -> str:
        return f"{timestamp_literal(self.moment)}::TIMESTAMPTZ"

    def _one(self, query: str) -> int:
        row = self.connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])


def remove_uncounted(lake: Lake, of: CapturedDatabase, last: Batch | None) -> None:
    """Removes changes that no batch counts, of captures that were killed, before a snapshot takes their place."""
    where = "batch > 0" if last is None else f"batch > {last.number} OR (batch = {last.number} AND lsn > {last.lsn})"
    for table in of.tables:
        retry_when_stale(partial(_delete, lake.table(of.path(table.changes)), where))


def _delete(table: LakeTable, where: str) -> None:
    snapshot = table.snapshot()
    if snapshot.count_at_most(where):
        snapshot.delete(where)
