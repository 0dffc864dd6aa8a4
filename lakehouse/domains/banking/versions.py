"""Accounts over time, from the changes of `account`.

Most changes of an account are of its balance, which makes no version. So of recent changes only the tracked columns are
compared with the current version. Where they differ, the account's versions are derived from all of its changes: those
of a day count together, and the first version begins with the account. Only years whose versions differ are written.
"""

from __future__ import annotations

from functools import partial

from lakehouse.derive.from_changes import RECENT, Following, FromChanges, followed
from lakehouse.derive.incremental import DeriveResult, count, differing_parts
from lakehouse.derive.source import DerivedTable
from lakehouse.ingest.postgres.captured import CapturedTable
from lakehouse.ingest.postgres.rows import META, texts_of_images, typed
from lakehouse.lake.sql import Query, Relation, literal, predicate

VERSIONS = "account_versions"
_TRACKED = ("number", "customer_id", "branch_id", "type_id", "purpose", "currency", "minimum_balance", "status_id")


def versions_table(account: CapturedTable, zone: str) -> DerivedTable:
    """The table of a bank whose day is on a clock."""
    return followed(
        FromChanges(VERSIONS, account, partial(_versions, account, zone), partial(_follow, account, zone)),
        "Owner, branch, type, state and minimum of each account over time.",
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


def _versions(account: CapturedTable, zone: str, changes: Query) -> Query:
    """The query for the versions that changes lead to."""
    return versions(zone, Relation(f"({states(account, changes)})"))


def _follow(account: CapturedTable, zone: str, running: Following) -> DeriveResult:
    """Applies the recent changes."""
    connection, target, part = running.connection, running.target, running.part
    tracked = ", ".join(_TRACKED)
    connection.execute(f"CREATE TEMP TABLE recent_states AS {states(account, Query(f'FROM {RECENT}'))}")
    # Also a state dated before the current version, as when the server's clock went back.
    connection.execute(
        f"""
        CREATE TEMP TABLE affected AS
        SELECT DISTINCT account_id FROM recent_states LEFT JOIN (
            SELECT account_id, row({tracked}) AS current, valid_from FROM ({target.select()}) WHERE valid_to IS NULL
        ) AS known USING (account_id)
        WHERE row({tracked}) IS DISTINCT FROM known.current
            OR (committed_at AT TIME ZONE {literal(zone)})::DATE < known.valid_from
        """
    )
    total = target.row_count()
    if not count(connection, "affected"):
        return running.write([], total)
    keys = "SELECT to_json(struct_pack(id := account_id::VARCHAR))::VARCHAR FROM affected"
    changes = Query(f"SELECT * FROM ({running.changes}) WHERE key IN ({keys})")
    columns = ", ".join(f'"{name}"' for name in target.table.contract.column_names)
    connection.execute(f"CREATE TEMP TABLE made AS SELECT {columns} FROM ({_versions(account, zone, changes)})")
    connection.execute(f"CREATE TEMP TABLE replaced AS FROM ({target.select()}) SEMI JOIN affected USING (account_id)")
    years = differing_parts(connection, part, "made", "replaced")
    where = predicate({part: years})
    kept = f"SELECT * FROM ({target.select({part: years})}) ANTI JOIN affected USING (account_id)"
    connection.execute(f"CREATE TEMP TABLE fresh AS {kept} UNION ALL FROM made WHERE {where}")
    return running.write(years, total - count(connection, "replaced") + count(connection, "made"))
