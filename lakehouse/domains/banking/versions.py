"""Accounts over time, from the changes of `account`.

Most changes of an account are of its balance, which makes no version. Only years whose versions differ are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.fingerprints import WHOLE, digest, outdated, said_by
from lakehouse.derive.incremental import DeriveResult, overwrite_changed
from lakehouse.derive.source import DerivedTable, Source
from lakehouse.ingest.postgres.captured import CapturedTable
from lakehouse.ingest.postgres.ledger import counted_changes, last_batch
from lakehouse.ingest.postgres.rows import META, texts_of_images, typed
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Query, Relation, literal
from lakehouse.lake.table import retry_when_stale
from lakehouse.progress import Progress

if TYPE_CHECKING:
    import duckdb

VERSIONS = "account_versions"
_TRACKED = ("number", "customer_id", "branch_id", "type_id", "purpose", "currency", "minimum_balance", "status_id")


def versions_table(account: CapturedTable, zone: str) -> DerivedTable:
    """The table of a bank whose day is on a clock."""
    return DerivedTable(
        name=VERSIONS,
        description="Owner, branch, type, state and minimum of each account over time.",
        depends_on=(account.changes,),
        derive=partial(derive_versions, account, zone),
        as_of=partial(versions_as_of, account, zone),
        is_whole=True,
    )


def states(account: CapturedTable, changes: Query) -> Query:
    """The query for the tracked columns after each change: one row for runs of changes with the same ones."""
    rows = Relation(f"(SELECT each AS {META} FROM ({changes}) AS each WHERE key IS NOT NULL AND op <> 'delete')")
    columns = ", ".join(
        "coalesce(minimum_balance, customer_minimum) AS minimum_balance" if name == "minimum_balance" else name
        for name in _TRACKED
    )
    return Query(f"""
        SELECT * FROM (
            SELECT id AS account_id, opened_at, {META}.committed_at AS committed_at, {META}.batch AS batch,
                {META}.lsn AS lsn, {META}.seq AS seq, {columns}
            FROM ({typed(account, texts_of_images(account, rows))})
        ) QUALIFY row({", ".join(_TRACKED)}) IS DISTINCT FROM lag(row({", ".join(_TRACKED)}))
            OVER (PARTITION BY account_id ORDER BY batch, lsn, seq)
    """)


def versions(zone: str, of_states: Relation) -> Query:
    """The query for the versions."""
    day = "({} AT TIME ZONE " + literal(zone) + ")::DATE"
    tracked = ", ".join(_TRACKED)
    return Query(f"""
        WITH by_day AS (
            SELECT account_id, {tracked}, opened_at, {day.format("committed_at")} AS day, batch, lsn, seq
            FROM {of_states}
            QUALIFY row_number() OVER (PARTITION BY account_id, day ORDER BY batch DESC, lsn DESC, seq DESC) = 1
        ),
        begun AS (
            SELECT account_id, {tracked},
                CASE WHEN row_number() OVER of_account = 1 THEN least(day, {day.format("opened_at")}) ELSE day END
                    AS valid_from
            FROM by_day
            WINDOW of_account AS (PARTITION BY account_id ORDER BY day)
            QUALIFY row({tracked}) IS DISTINCT FROM lag(row({tracked})) OVER of_account
        )
        SELECT date_trunc('year', valid_from)::DATE AS year, account_id, {tracked}, valid_from,
            lead(valid_from) OVER (PARTITION BY account_id ORDER BY valid_from) AS valid_to
        FROM begun
    """)


def versions_as_of(
    account: CapturedTable, zone: str, lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source
) -> Query:
    """The query for the table's rows as of `lake.as_of`."""
    changes = counted_changes(lake, connection, source.name, account)
    return versions(zone, Relation(f"({states(account, changes)})"))


def derive_versions(
    account: CapturedTable,
    zone: str,
    lake: Lake,
    source: Source,
    partitions: Sequence[date] = (),
    *,
    afresh: bool = False,
    verify: bool = False,
    progress: Progress = lambda *_: None,
) -> DeriveResult:
    """Brings the table in line with the changes, whatever `partitions` are (see `lakehouse.derive.source.Derive`)."""
    made = retry_when_stale(partial(_derive, account, zone, lake, source, afresh, verify))
    progress(VERSIONS, 1, 1)
    return made


def _derive(account: CapturedTable, zone: str, lake: Lake, source: Source, afresh: bool, verify: bool) -> DeriveResult:
    target = lake.table(source.table(VERSIONS)).snapshot()
    changes = lake.table(source.table(account.changes)).snapshot()
    with lake.connect() as connection:
        last = last_batch(lake, connection, source.name)
        if last is None:
            return DeriveResult()
        rule = versions(zone, Relation(f"({states(account, Query('changes'))})"))
        said = digest(rule, said_by(target.table.contract))
        made_from = {WHOLE: digest(said, last.number, last.lsn, changes.version)}
        if not afresh and not verify and not outdated(target, made_from):
            return DeriveResult(target.row_count())
        counted = counted_changes(lake, connection, source.name, account, last)
        connection.execute(f"CREATE TEMP TABLE states AS {states(account, counted)}")
        connection.execute(f"CREATE TEMP TABLE fresh AS {versions(zone, Relation('states'))}")
        columns = ", ".join(target.table.contract.column_names)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE fresh AS SELECT {columns} FROM fresh")
        found = connection.execute("SELECT DISTINCT year::VARCHAR FROM fresh").fetchall()
        years = sorted({year for (year,) in found} | set(target.partition_values("year")))
        if not years:
            return DeriveResult()
        return overwrite_changed(
            connection, target, "year", years, "year, account_id, valid_from", made_from, verify=verify
        )
