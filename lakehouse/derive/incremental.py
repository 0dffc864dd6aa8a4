"""Shared by all derivations: finding the differences to the stored table, and detecting outdated inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.derive.fingerprints import Fingerprints, marks_of, outdated
from lakehouse.errors import StaleSnapshot
from lakehouse.lake.opening import open_snapshot
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import difference_of, predicate
from lakehouse.lake.table import TRIES, retry_when_stale

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_ROWS_AT_ONCE = 100_000


@dataclass(frozen=True)
class DeriveResult:
    """The result of a derivation: rows in the requested partitions, changed rows and sessions (or days, years), the
    number of commits, and, for bars and daily bars, changed rows per session.
    """

    rows: int = 0
    changed: frozenset[date] = frozenset()
    rows_changed: int = 0
    commits: int = 0
    changed_by_partition: Mapping[date, int] = field(default_factory=dict)

    def __add__(self, other: DeriveResult) -> DeriveResult:
        """Combines the results of two derivations of the same table."""
        return DeriveResult(
            self.rows + other.rows,
            self.changed | other.changed,
            self.rows_changed + other.rows_changed,
            self.commits + other.commits,
            Counter(self.changed_by_partition) + Counter(other.changed_by_partition),
        )


def derive_until_current(derive: Callable[[], tuple[DeriveResult, Sequence[Snapshot]]]) -> DeriveResult:
    """Repeats a derivation while an input has a newer version after the commit than the one read.

    A derivation that finds a newer target has committed nothing and counts nothing. One whose inputs were outdated has
    committed, so its changes are added to those of the next one.

    Args:
        derive: takes its own snapshots, commits at most once, and returns its result and the inputs.
    """
    before = DeriveResult()
    for _ in range(TRIES):
        made, inputs = retry_when_stale(derive)
        done = replace(before + made, rows=made.rows)
        outdated = [snapshot for snapshot in inputs if open_snapshot(snapshot.table).version != snapshot.version]
        if not made.commits or not outdated:
            return done
        before = done
    raise StaleSnapshot(f"{outdated[0].table.name} changes faster than anything can be derived from it")


def overwrite_changed(
    connection: duckdb.DuckDBPyConnection,
    target: Snapshot,
    partition: str,
    values: Sequence[date | str],
    order: str,
    made_from: Fingerprints,
    *,
    verify: bool,
    rows: pa.Table | Path | None = None,
) -> DeriveResult:
    """Writes those of the partitions whose rows in the relation `fresh` differ from the stored ones; with `verify`,
    returns what would be written.

    Args:
        partition: the target's partition column, and `values` those that `fresh` is about.
        order: columns by which the written rows are sorted.
        made_from: what `fresh` is made from, stored with the rows (see `lakehouse.derive.fingerprints`).
        rows: all rows of `fresh` in that order, if the caller has them: in memory, where nothing is stored in these
            partitions; or in a Parquet file, of which `fresh` is a view.
    """
    made = count(connection, "fresh")
    changed = changed_partitions(connection, target, partition, values)
    if not changed:
        if not verify and outdated(target, made_from):
            target.mark(marks_of(target, made_from, ()))
        return DeriveResult(made)
    where = predicate({partition: changed})
    if isinstance(rows, Path):
        counts = f"SELECT {partition}, count(*) FROM fresh WHERE {where} GROUP BY 1 ORDER BY 1"
        found = dict(connection.execute(counts).fetchall())
        if not verify:
            target.overwrite(
                _read(rows, target.table.contract.arrow_schema, partition, changed),
                where,
                checkpoints=marks_of(target, made_from, changed),
                folders=[f"{partition}={value}" for value in found],
            )
        return DeriveResult(made, frozenset(changed), sum(found.values()), int(not verify), found)
    query = f"SELECT * FROM fresh WHERE {where} ORDER BY {order}"
    table = connection.sql(query).to_arrow_table() if rows is None else rows
    if not verify:
        target.overwrite(table, where, checkpoints=marks_of(target, made_from, changed))
    by_partition = {each["values"]: each["counts"] for each in table[partition].value_counts().to_pylist()}
    return DeriveResult(made, frozenset(changed), table.num_rows, int(not verify), by_partition)


def overwrite_differing(
    connection: duckdb.DuckDBPyConnection,
    target: Snapshot,
    query: str,
    order: str,
    made_from: Fingerprints,
    *,
    verify: bool,
) -> DeriveResult:
    """Makes `query` the whole content of the target; writes only the partitions whose rows differ (see
    `overwrite_changed`).
    """
    part = target.table.contract.partition_by[0]
    connection.execute(f"CREATE TEMP TABLE fresh AS {query}")
    found = connection.execute(f"SELECT DISTINCT {part}::VARCHAR FROM fresh").fetchall()
    values = sorted({value for (value,) in found} | set(target.partition_values(part)))
    return overwrite_changed(connection, target, part, values, order, made_from, verify=verify)


def _read(path: Path, schema: pa.Schema, partition: str, values: Sequence[date | str]) -> pa.RecordBatchReader:
    """The rows of some partitions in a Parquet file, a batch at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    wanted = pa.array(values, schema.field(partition).type)

    def batches() -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                rows = batch.filter(pc.is_in(batch[partition], wanted))
                yield from pa.Table.from_batches([rows]).select(schema.names).cast(schema).to_batches()

    return pa.RecordBatchReader.from_batches(schema, batches())


def changed_partitions(
    connection: duckdb.DuckDBPyConnection, target: Snapshot, partition: str, values: Sequence[date | str]
) -> list[date]:
    """The partitions whose rows in the relation `fresh` differ, as a set, from the stored ones."""
    if not target.files({partition: values}):
        found = connection.execute(f"SELECT DISTINCT {partition} FROM fresh").fetchall()
        return sorted(value for (value,) in found)
    columns = ", ".join(f'"{name}"' for name in target.table.contract.column_names)
    # Rows are unique by key, so the row count and an order-independent sum of row hashes distinguish two sets.
    fingerprint = (
        f"SELECT {partition}, count(*) AS row_count, sum(hash({columns})::HUGEINT) AS hashes "
        f"FROM {{}} GROUP BY {partition}"
    )
    stored = fingerprint.format(f"({target.select({partition: values})})")
    rows = connection.execute(
        f"""
        SELECT {partition} FROM ({fingerprint.format("fresh")}) AS new FULL JOIN ({stored}) AS old USING ({partition})
        WHERE (new.row_count, new.hashes) IS DISTINCT FROM (old.row_count, old.hashes)
        """
    ).fetchall()
    return sorted(value for (value,) in rows)


def count(connection: duckdb.DuckDBPyConnection, relation: str) -> int:
    """The number of rows of a relation."""
    row = connection.execute(f"SELECT count(*) FROM {relation}").fetchone()
    assert row is not None
    return int(row[0])


def differing_parts(connection: duckdb.DuckDBPyConnection, part: str, one: str, other: str) -> list[Any]:
    """The values of a column, ascending, with which two relations of the same columns have other rows."""
    found = connection.execute(
        f"SELECT DISTINCT {part} FROM {difference_of(f'FROM {one}', f'FROM {other}')} ORDER BY 1"
    ).fetchall()
    return [value for (value,) in found]
