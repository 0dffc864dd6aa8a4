"""Deriving a table whose rows follow, partition by partition, from a dataset's raw rows and the ledger alone.

A table that also follows from its own other partitions, as one with the close of the day before, derives itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

from lakehouse.derive.incremental import DeriveResult, changed_partitions, count, derive_until_current
from lakehouse.derive.source import Source
from lakehouse.ingest.ledger import LEDGER, about
from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import literal, predicate
from lakehouse.progress import Progress

if TYPE_CHECKING:
    import duckdb

# A partition of a large dataset has some 100,000 rows: twenty of them keep DuckDB at about 2 GB.
PARTITIONS_AT_ONCE = 20

Rules = Callable[[Any, "duckdb.DuckDBPyConnection", str, str], str]
"""Makes the query of a source's table from relations of the raw rows and of the dataset's rows of the ledger; what else
it reads, it registers in the connection.
"""


def derive_by_partition(
    dataset: str,
    table: str,
    rules: Rules,
    lake: Lake,
    source: Source,
    partitions: Sequence[date],
    *,
    verify: bool = False,
    progress: Progress = lambda *_: None,
) -> DeriveResult:
    """Brings the rows of `partitions` in line with the dataset's raw rows and the ledger, as many partitions at once as
    fit into memory, oldest first. With `verify` nothing is written, and the result says what would be.
    """
    return in_batches(partial(_batch, dataset, table, rules, lake, source), table, partitions, verify, progress)


def in_batches(
    derive: Callable[[list[date], bool], tuple[DeriveResult, Sequence[Snapshot]]],
    what: str,
    partitions: Sequence[date],
    verify: bool,
    progress: Progress,
) -> DeriveResult:
    """Derives as many partitions at once as fit into memory, oldest first."""
    result, ordered = DeriveResult(), sorted(partitions)
    for start in range(0, len(ordered), PARTITIONS_AT_ONCE):
        batch = ordered[start : start + PARTITIONS_AT_ONCE]
        result += derive_until_current(partial(derive, batch, verify))
        progress(f"partitions of {what}", start + len(batch), len(ordered))
    return result


def partitions_as_of(
    dataset: str, rules: Rules, lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source
) -> str:
    """The query for the table's rows as of `lake.as_of`."""
    raw, ledger = raw_and_ledger(dataset, lake, connection, source)
    return rules(source, connection, raw, ledger)


def raw_and_ledger(dataset: str, lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> tuple[str, str]:
    """Relations of a dataset's raw rows and of its rows of the ledger, the latter as of `lake.as_of`: it says which of
    the former count.
    """
    ledger = f"SELECT * FROM ({lake.select(LEDGER, connection, {'source': [source.name]})})"
    stored = lake.table(source.dataset(dataset).table).snapshot().select()
    return f"({stored})", f"({ledger} WHERE product = {literal(dataset)})"


def _batch(
    dataset: str, table: str, rules: Rules, lake: Lake, source: Source, partitions: list[date], verify: bool
) -> tuple[DeriveResult, Sequence[Snapshot]]:
    target = lake.table(source.table(table)).snapshot()
    part = target.table.contract.partition_by[0]
    with lake.connect() as connection:
        wanted = {part: partitions}
        # The ledger's snapshot comes before the raw table's: a load writes the raw rows first, so that every version
        # that the ledger names has its rows in the raw snapshot.
        ledger = lake.table(LEDGER).snapshot()
        raw = lake.table(source.dataset(dataset).table).snapshot().select(wanted)
        known = f"({about(ledger, source.name, dataset, partitions)})"
        derived = rules(source, connection, f"({raw})", known)
        order = f"ORDER BY {', '.join(dict.fromkeys((part, *target.table.contract.key)))}"
        rows = None
        if target.files(wanted):
            connection.execute(f"CREATE TEMP TABLE fresh AS {derived}")
        else:
            # Nothing is stored to compare with: all rows will be written.
            rows = connection.execute(f"{derived} {order}").to_arrow_table()
            connection.register("fresh", rows)
        made = count(connection, "fresh")
        changed = changed_partitions(connection, target, part, partitions)
        if not changed:
            return DeriveResult(made), (ledger,)
        where = predicate({part: changed})
        if rows is None:
            rows = connection.execute(f"SELECT * FROM fresh WHERE {where} {order}").to_arrow_table()
        if not verify:
            target.overwrite(rows, where)
        by_partition = Counter(rows[part].to_pylist())
        return DeriveResult(made, frozenset(changed), rows.num_rows, int(not verify), by_partition), (ledger,)
