"""Current tables of a captured database: the row that each key has at the last batch of the capture ledger.

A row is stored by the day of its first change, and stays there until it is deleted. So new rows are appended, and of a
row that is updated or deleted only the partition is written again. A table stores, in the commit of its rows, up to
which batch it has the changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.conservation import NOTHING_CONSERVED
from lakehouse.derive.fingerprints import MADE_FROM, WHOLE, digest, said_by
from lakehouse.derive.incremental import DeriveResult, changed_partitions, count
from lakehouse.derive.source import DerivedTable, Source, TableQuery
from lakehouse.ingest.entered import QUARANTINE
from lakehouse.ingest.partitioning import Partitioning
from lakehouse.ingest.postgres.capture import CaptureResult, capture
from lakehouse.ingest.postgres.captured import LEDGER, CapturedDatabase, CapturedTable
from lakehouse.ingest.postgres.ledger import Batch, counted_changes, current_images, last_batch, latest_changes
from lakehouse.ingest.postgres.rows import META, texts_of_images, typed
from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import Query, Relation, literal, predicate, timestamp_literal
from lakehouse.lake.table import retry_when_stale
from lakehouse.progress import Progress
from lakehouse.servers.postgres import Place

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


_BATCH, _LSN = "reached:batch", "reached:lsn"


def current_tables(of: CapturedDatabase) -> tuple[DerivedTable, ...]:
    """The current table of each captured table."""
    return tuple(
        DerivedTable(
            name=table.name,
            description=table.contract.description.strip(),
            depends_on=(table.changes,),
            derive=partial(derive_current, table),
            as_of=partial(current_as_of, table),
            is_whole=True,
        )
        for table in of.tables
    )


def change_views(of: CapturedDatabase) -> dict[str, TableQuery]:
    """The tables of changes, as queries of those that count."""
    return {table.changes: partial(changes_as_of, table) for table in of.tables}


def changes_as_of(table: CapturedTable, lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> Query:
    """The query for the changes that count as of `lake.as_of`."""
    return counted_changes(lake, connection, source.name, table)


def current_as_of(table: CapturedTable, lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> Query:
    """The query for the table's rows as of `lake.as_of`."""
    return _typed(table, current_images(lake, connection, source.name, table))


def capture_and_derive(
    lake: Lake, source: CapturedSource, *, run_id: str | None = None, after: Callable[[str], None] = lambda step: None
) -> CaptureResult:
    """Captures what is new, and brings all tables in line with it.

    Raises:
        DatabaseUnavailable, SourceError: see `lakehouse.ingest.postgres.capture.capture`.
    """
    result = capture(lake, source.of, run_id=run_id, after=after)
    for table in source.tables:
        table.derive(lake, source, [])
    return result


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


def derive_current(
    table: CapturedTable,
    lake: Lake,
    source: Source,
    partitions: Sequence[date] = (),
    *,
    afresh: bool = False,
    verify: bool = False,
    progress: Progress = lambda *_: None,
) -> DeriveResult:
    """Brings the table in line with its changes, whatever `partitions` are (see `lakehouse.derive.source.Derive`)."""
    made = retry_when_stale(partial(_derive, table, lake, source, afresh, verify))
    progress(table.name, 1, 1)
    return made


def _derive(table: CapturedTable, lake: Lake, source: Source, afresh: bool, verify: bool) -> DeriveResult:
    target = lake.table(source.table(table.name)).snapshot()
    rule = digest(_typed(table, Query("rows")), said_by(table.contract))
    with lake.connect() as connection:
        last = last_batch(lake, connection, source.name)
        if last is None:
            return DeriveResult(target.row_count())
        reached = _reached(target)
        if afresh or verify or reached is None or target.marks(MADE_FROM).get(WHOLE) != rule:
            return _rebuild(table, lake, source, connection, target, last, rule, verify)
        if reached == (last.number, last.lsn):
            return DeriveResult(target.row_count())
        changes = counted_changes(lake, connection, source.name, table, last, reached)
        connection.execute(f"CREATE TEMP TABLE recent AS {changes}")
        if count(connection, "(FROM recent WHERE op = 'truncate')"):
            return _rebuild(table, lake, source, connection, target, last, rule, verify)
        return _follow(table, connection, target, _marks(last, rule))


def _rebuild(
    table: CapturedTable,
    lake: Lake,
    source: Source,
    connection: duckdb.DuckDBPyConnection,
    target: Snapshot,
    last: Batch,
    rule: int,
    verify: bool,
) -> DeriveResult:
    """Derives all rows from all changes, and writes the partitions that differ."""
    connection.execute(
        f"CREATE TEMP TABLE fresh AS {_typed(table, current_images(lake, connection, source.name, table, last))}"
    )
    found = connection.execute(f'SELECT DISTINCT "{table.part}"::VARCHAR FROM fresh').fetchall()
    values = sorted({value for (value,) in found} | set(target.partition_values(table.part)))
    changed = changed_partitions(connection, target, table.part, values) if values else []
    made = count(connection, "fresh")
    if verify:
        rows_changed = count(connection, f"(FROM fresh WHERE {predicate({table.part: changed})})")
        return DeriveResult(made, frozenset(changed), rows_changed)
    if not changed:
        if _reached(target) != (last.number, last.lsn):
            target.mark(_marks(last, rule))
        return DeriveResult(made)
    return _write(table, connection, target, changed, _marks(last, rule), made)


def _follow(
    table: CapturedTable, connection: duckdb.DuckDBPyConnection, target: Snapshot, marks: dict[str, int]
) -> DeriveResult:
    """Applies the changes in the table `recent`."""
    before = target.row_count()
    if not count(connection, "recent"):
        # Without a commit, as other tables' batches are many; the changes since are looked for in few files.
        return DeriveResult(before)
    key = ", ".join(f'"{name}"' for name in table.contract.key)
    newest = latest_changes(Query("FROM recent"))
    connection.execute(f"CREATE TEMP TABLE touched AS {_typed_with_meta(table, newest)}")
    deleted = "SELECT key FROM recent WHERE op = 'delete'"
    # A row that wasn't deleted meanwhile stays in its partition.
    connection.execute(
        f'CREATE TEMP TABLE found AS SELECT {key}, stored."{table.part}" AS part FROM ({target.select()}) AS stored '
        f"SEMI JOIN touched USING ({key})"
    )
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
        rows = connection.sql(f'SELECT * FROM placed ORDER BY "{table.part}", {key}').to_arrow_table()
        if rows.num_rows:
            target.append(rows, [table.name], marks)
        by_partition = Counter(rows[table.part].to_pylist())
        return DeriveResult(before + rows.num_rows, frozenset(by_partition), rows.num_rows, 1, by_partition)
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
    return _write(table, connection, target, parts, marks, before - gone + added)


def _write(
    table: CapturedTable,
    connection: duckdb.DuckDBPyConnection,
    target: Snapshot,
    parts: Sequence[date],
    marks: dict[str, int],
    made: int,
) -> DeriveResult:
    """Replaces partitions by their rows in the table `fresh`."""
    where = predicate({table.part: parts})
    order = ", ".join(f'"{name}"' for name in dict.fromkeys((table.part, *table.contract.key)))
    rows = connection.sql(f"SELECT * FROM fresh WHERE {where} ORDER BY {order}").to_arrow_table()
    target.overwrite(rows, where, checkpoints=marks)
    by_partition = Counter(rows[table.part].to_pylist())
    return DeriveResult(made, frozenset(parts), rows.num_rows, 1, by_partition)


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


def _reached(target: Snapshot) -> tuple[int, int] | None:
    number, lsn = target.checkpoint(_BATCH), target.checkpoint(_LSN)
    return None if number is None or lsn is None else (number, lsn)


def _marks(last: Batch, rule: int) -> dict[str, int]:
    return {_BATCH: last.number, _LSN: last.lsn, f"{MADE_FROM}{WHOLE}": rule}
