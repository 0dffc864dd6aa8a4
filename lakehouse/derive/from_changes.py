"""Derives tables that follow from the changes of one captured table.

Belongs here: up to where a table has the changes, and whether it follows those since then or is derived from all of
them. What rows they give is said by the table: the current rows in `captured`, or a domain's own, such as versions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.fingerprints import CONTENT, MADE_FROM, WHOLE, digest, said_by
from lakehouse.derive.incremental import DeriveResult, changed_partitions, count
from lakehouse.derive.source import DerivedTable, Source
from lakehouse.ingest.postgres.captured import CapturedTable
from lakehouse.ingest.postgres.ledger import counted_changes, last_batch
from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import Query, predicate
from lakehouse.lake.table import retry_when_stale
from lakehouse.progress import Progress

if TYPE_CHECKING:
    import duckdb

_BATCH, _LSN = "reached:batch", "reached:lsn"
_RULE = f"{MADE_FROM}{WHOLE}"
RECENT = "recent"
"""The table of the changes that a derivation follows."""


@dataclass(frozen=True)
class Following:
    """A derivation that is running.

    Args:
        changes: all changes that count.
        reached: the numbers to store with the rows: up to where the table has the changes then, and by which rule.
    """

    connection: duckdb.DuckDBPyConnection
    target: Snapshot
    changes: Query
    reached: Mapping[str, int]

    @property
    def part(self) -> str:
        """The table's partition column."""
        return self.target.table.contract.partition_by[0]

    def marks(self, changed: Collection[date]) -> dict[str, int]:
        """The numbers to store in the commit that changes some partitions."""
        before = self.target.marks(CONTENT)
        of_rows = {f"{CONTENT}{day}": digest(before.get(str(day)), *sorted(self.reached.items())) for day in changed}
        return {**self.reached, **of_rows}

    def write(self, changed: Sequence[date], total: int) -> DeriveResult:
        """Replaces partitions by their rows in the table `fresh`.

        Args:
            total: how many rows the table has then.
        """
        target = self.target
        if not changed:
            if any(target.checkpoint(name) != number for name, number in self.reached.items()):
                target.mark(self.reached)
            return DeriveResult(total)
        where = predicate({self.part: changed})
        order = ", ".join(f'"{name}"' for name in dict.fromkeys((self.part, *target.table.contract.key)))
        rows = self.connection.sql(f"SELECT * FROM fresh WHERE {where} ORDER BY {order}").to_arrow_table()
        target.overwrite(rows, where, checkpoints=self.marks(changed))
        by_partition = Counter(rows[self.part].to_pylist())
        return DeriveResult(total, frozenset(changed), rows.num_rows, 1, by_partition)


@dataclass(frozen=True)
class FromChanges:
    """How a table follows from the changes of a captured table.

    Args:
        rows: the query for all rows, from a query for all changes.
        follow: brings the table in line with the changes in `RECENT`, none of which empties the captured table.
    """

    table: str
    of: CapturedTable
    rows: Callable[[Query], Query]
    follow: Callable[[Following], DeriveResult]


def followed(how: FromChanges, description: str) -> DerivedTable:
    """The table as one of its source."""
    return DerivedTable(
        name=how.table,
        description=description,
        depends_on=(how.of.changes,),
        derive=partial(derive_from_changes, how),
        as_of=partial(rows_as_of, how),
        is_whole=True,
    )


def derive_from_changes(
    how: FromChanges,
    lake: Lake,
    source: Source,
    partitions: Sequence[date] = (),
    *,
    afresh: bool = False,
    verify: bool = False,
    progress: Progress = lambda *_: None,
) -> DeriveResult:
    """Brings the table in line with the changes that count, whatever `partitions` are (see
    `lakehouse.derive.source.Derive`).
    """
    made = retry_when_stale(partial(_derive, how, lake, source, afresh, verify))
    progress(how.table, 1, 1)
    return made


def rows_as_of(how: FromChanges, lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> Query:
    """The query for the table's rows as of `lake.as_of`."""
    return how.rows(counted_changes(lake, connection, source.name, how.of))


def _derive(how: FromChanges, lake: Lake, source: Source, afresh: bool, verify: bool) -> DeriveResult:
    target = lake.table(source.table(how.table)).snapshot()
    rule = digest(how.rows(Query("changes")), said_by(target.table.contract))
    with lake.connect() as connection:
        last = last_batch(lake, connection, source.name)
        if last is None:
            return DeriveResult(target.row_count())
        number, lsn = target.checkpoint(_BATCH), target.checkpoint(_LSN)
        is_followed = number is not None and lsn is not None and target.marks(MADE_FROM).get(WHOLE) == rule
        if is_followed and (number, lsn) == (last.number, last.lsn) and not afresh and not verify:
            return DeriveResult(target.row_count())
        changes = counted_changes(lake, connection, source.name, how.of, last)
        reached = {_BATCH: last.number, _LSN: last.lsn, _RULE: rule}
        running = Following(connection, target, changes, reached)
        if afresh or verify or number is None or lsn is None or not is_followed:
            return _rebuild(how, running, verify)
        recent = counted_changes(lake, connection, source.name, how.of, last, (number, lsn))
        connection.execute(f"CREATE TEMP TABLE {RECENT} AS {recent}")
        if not count(connection, RECENT):
            # Without a commit, as other tables' batches are many; the changes since are looked for in few files.
            return DeriveResult(target.row_count())
        if count(connection, f"(FROM {RECENT} WHERE op = 'truncate')"):
            return _rebuild(how, running, verify)
        return how.follow(running)


def _rebuild(how: FromChanges, running: Following, verify: bool) -> DeriveResult:
    """Derives all rows from all changes, and writes the partitions that differ."""
    connection, target, part = running.connection, running.target, running.part
    columns = ", ".join(f'"{name}"' for name in target.table.contract.column_names)
    connection.execute(f"CREATE TEMP TABLE fresh AS SELECT {columns} FROM ({how.rows(running.changes)})")
    found = connection.execute(f'SELECT DISTINCT "{part}"::VARCHAR FROM fresh').fetchall()
    values = sorted({value for (value,) in found} | set(target.partition_values(part)))
    changed = changed_partitions(connection, target, part, values) if values else []
    made = count(connection, "fresh")
    if verify:
        rows_changed = count(connection, f"(FROM fresh WHERE {predicate({part: changed})})")
        return DeriveResult(made, frozenset(changed), rows_changed)
    return running.write(changed, made)
