"""Current tables of a captured database: the row that each key has at the last batch of the capture ledger.

A row is stored by the day of its first change, and stays there until it is deleted. So new rows are appended, and of a
row that is updated or deleted only the partition is written again. A table stores, in the commit of its rows, up to
which batch it has the changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.conservation import NOTHING_CONSERVED
from lakehouse.derive.from_changes import RECENT, Following, FromChanges, followed
from lakehouse.derive.incremental import DeriveResult, count
from lakehouse.derive.source import DerivedTable, Source, TableQuery
from lakehouse.ingest.entered import QUARANTINE
from lakehouse.ingest.partitioning import Partitioning
from lakehouse.ingest.postgres.capture import CaptureResult, capture, has_news
from lakehouse.ingest.postgres.captured import LEDGER, CapturedDatabase, CapturedTable
from lakehouse.ingest.postgres.ledger import counted_changes, current_images, last_batch, latest_changes, present_rows
from lakehouse.ingest.postgres.rows import META, texts_of_images, typed
from lakehouse.ingest.postgres.server import serving
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Query, Relation, literal, timestamp_literal
from lakehouse.servers.postgres import Place, was_made

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, kw_only=True)
class CapturedSource(Source):
    """A source that captures a database.

    Args:
        of: what is captured.
        place: where the database is.
        days: the days by which people look at it.
        lag_warning_bytes: bytes of log that weren't captured yet from which on a check warns.
    """

    of: CapturedDatabase
    place: Place
    days: Partitioning
    lag_warning_bytes: int

    @property
    def taken_in_by(self) -> str:
        """The command that captures."""
        return f"{self.name} capture"

    @property
    def is_updated(self) -> bool:
        return True

    def lacks(self) -> str | None:
        """See `Source.lacks`.

        Raises:
            DatabaseUnavailable: the database doesn't answer.
        """
        missing = f"its database has no schema {self.of.schema} yet: run lakehouse {self.name} init"
        if self.place.url is None and not was_made(self.place):
            return missing
        with serving(self.of, locked=False) as server:
            return None if server.has_schema else missing

    def has_news(self, lake: Lake) -> bool:
        return has_news(lake, self.of) is not None

    @property
    def present(self) -> list[date]:
        """The day that is now: a capture takes in all that is new, whatever day it is run for."""
        today = self.days.of(self.days.day_at(datetime.now(UTC)))
        return [] if today is None else [today]

    @property
    def freshness(self) -> str:
        """When its tables are brought up to date."""
        return "with each capture of its database"


def capture_notes(of: CapturedDatabase, lake: Lake) -> Mapping[str, str]:
    """What `lakehouse status` says of a captured database."""
    with lake.connect() as connection:
        last = last_batch(lake, connection, of.source)
        if last is None:
            return {"captured": "nothing yet"}
        ledger = lake.table(of.path(LEDGER)).snapshot().select()
        row = connection.execute(f"SELECT sum(changes), sum(transactions) FROM ({ledger})").fetchone()
    assert row is not None
    changes, transactions = row
    said = f"{changes:,} changes of {transactions:,} transactions in {last.number:,} batches"
    found = {"captured": f"{said}, up to {last.position} at {last.committed_at:%Y-%m-%d %H:%M:%S} UTC"}
    return found | {f"stopped: {name}": reason for name, reason in sorted(last.stopped.items())}


def current_tables(of: CapturedDatabase) -> tuple[DerivedTable, ...]:
    """The current table of each captured table."""
    return tuple(
        followed(
            FromChanges(table.name, table, partial(_present, table), partial(_follow, table)),
            table.contract.description.strip(),
        )
        for table in of.tables
    )


def change_views(of: CapturedDatabase) -> dict[str, TableQuery]:
    """The tables of changes, as queries of those that count."""
    return {table.changes: partial(changes_as_of, table) for table in of.tables}


def changes_as_of(table: CapturedTable, lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> Query:
    """The query for the changes that count as of `lake.as_of`."""
    return counted_changes(lake, connection, source.name, table)


def capture_and_derive(
    lake: Lake, source: CapturedSource, *, run_id: str | None = None, after: Callable[[str], None] = lambda step: None
) -> CaptureResult:
    """Captures what is new, and brings all tables in line with it.

    Raises:
        DatabaseUnavailable, SourceError: see `lakehouse.ingest.postgres.capture.capture`.
    """
    result = capture(lake, source.of, run_id=run_id, after=after)
    derive_tables(lake, source)
    return result


def derive_tables(lake: Lake, source: CapturedSource, captured: Collection[str] | None = None) -> None:
    """Brings all tables in line with what was captured.

    Args:
        captured: the captured tables that have changes since all were in line; None where that isn't known.
    """
    idle = set() if captured is None else {table.changes for table in source.of.tables if table.name not in captured}
    for table in source.tables:
        if not idle.issuperset(table.depends_on):
            table.derive(lake, source, [])


def conserved(lake: Lake, connection: duckdb.DuckDBPyConnection, source: CapturedSource) -> str:
    """The query for the terms of the conservation law, a row per captured table: changes received = rows kept + changes
    superseded by later ones + changes quarantined. Each is counted in its own stored table.
    """
    last = last_batch(lake, connection, source.name)
    if last is None:
        return NOTHING_CONSERVED
    moment = f"{timestamp_literal(last.captured_at)}::TIMESTAMPTZ"
    ledger = lake.select(source.table(LEDGER), connection)
    quarantine = lake.table(QUARANTINE).snapshot().select({"source": [source.name]})
    queries = []
    for table in source.of.tables:
        changes = counted_changes(lake, connection, source.name, table, last)
        latest = current_images(lake, connection, source.name, table, last)
        name, kept = literal(table.name), lake.select(source.table(table.name), connection)
        day = literal(last.captured_at.date())
        queries.append(f"""
            SELECT {literal(source.name)} AS source, {name} AS product, DATE {day} AS session,
                (SELECT coalesce(sum(each.changes), 0) FROM (SELECT unnest(tables) AS each FROM ({ledger}))
                    WHERE each.name = {name})::BIGINT AS received,
                (SELECT count(*) FROM ({kept})) AS kept, 0::BIGINT AS duplicates,
                (SELECT count(*) FROM ({changes})) - (SELECT count(*) FROM ({latest})) AS superseded,
                (SELECT count(*) FROM ({quarantine}) WHERE object = {name} AND ingested_at <= {moment}) AS quarantined
        """)
    return " UNION ALL ".join(queries)


def _follow(table: CapturedTable, running: Following) -> DeriveResult:
    """Applies the recent changes."""
    connection, target = running.connection, running.target
    before = target.row_count()
    key = ", ".join(f'"{name}"' for name in table.contract.key)
    newest = latest_changes(Query(f"FROM {RECENT}"))
    connection.execute(f"CREATE TEMP TABLE touched AS {_typed_with_meta(table, newest)}")
    deleted = f"SELECT key FROM {RECENT} WHERE op = 'delete'"
    # Of a row whose first change is an insert the table has none, so that only those of others are looked for.
    order = "arg_min(op, row(batch, lsn, seq))"
    stored = f"SELECT key FROM {RECENT} WHERE key IS NOT NULL GROUP BY key HAVING {order} <> 'insert'"
    connection.execute(f"CREATE TEMP TABLE known AS SELECT {key} FROM touched WHERE {META}.key IN ({stored})")
    rows = target.select() if count(connection, "known") else target.select({table.part: []})
    connection.execute(
        f'CREATE TEMP TABLE found AS SELECT {key}, stored."{table.part}" AS part FROM ({rows}) AS stored '
        f"SEMI JOIN known USING ({key})"
    )
    # A row that wasn't deleted meanwhile stays in its partition.
    columns = ", ".join(f'"{name}"' for name in table.contract.column_names if name != table.part)
    restarted = f"SELECT {key} FROM touched WHERE {META}.key IN ({deleted})"
    connection.execute(
        f"""
        CREATE TEMP TABLE placed AS SELECT coalesce(kept.part, touched."{table.part}") AS "{table.part}", {columns}
        FROM touched LEFT JOIN (FROM found ANTI JOIN ({restarted}) USING ({key})) AS kept USING ({key})
        WHERE {META}.op <> 'delete'
        """
    )
    rewritten = [part for (part,) in connection.execute("SELECT DISTINCT part FROM found ORDER BY part").fetchall()]
    if not rewritten:
        made = connection.sql(f'SELECT * FROM placed ORDER BY "{table.part}", {key}').to_arrow_table()
        by_partition = Counter(made[table.part].to_pylist())
        if made.num_rows:
            target.append(made, [table.name], running.marks(by_partition))
        return DeriveResult(before + made.num_rows, frozenset(by_partition), made.num_rows, 1, by_partition)
    own = connection.execute(f'SELECT DISTINCT "{table.part}" FROM placed').fetchall()
    parts = sorted({*rewritten, *(part for (part,) in own)})
    every = ", ".join(f'"{name}"' for name in table.contract.column_names)
    connection.execute(
        f"""
        CREATE TEMP TABLE fresh AS
        SELECT {every} FROM ({target.select({table.part: parts})}) ANTI JOIN touched USING ({key})
        UNION ALL SELECT {every} FROM placed
        """
    )
    gone = count(connection, "found") - count(connection, f"(FROM placed SEMI JOIN found USING ({key}))")
    added = count(connection, f"(FROM placed ANTI JOIN found USING ({key}))")
    return running.write(parts, before - gone + added)


def _present(table: CapturedTable, changes: Query) -> Query:
    """The query for the table's rows after changes."""
    return _typed(table, present_rows(changes))


def _typed(table: CapturedTable, rows: Query) -> Query:
    """The query for the table's columns of rows with image and part."""
    return Query(f"SELECT * EXCLUDE ({META}) FROM ({_typed_with_meta(table, rows)})")


def _typed_with_meta(table: CapturedTable, rows: Query) -> Query:
    """The same with all columns of `rows` in the struct `META`: a table's own columns may have their names."""
    images = Relation(f"(SELECT each AS {META} FROM ({rows}) AS each)")
    columns = [
        f'{META}.part AS "{name}"' if name == table.part else f'"{name}"' for name in table.contract.column_names
    ]
    return Query(f"SELECT {', '.join([META, *columns])} FROM ({typed(table, texts_of_images(table, images))})")
