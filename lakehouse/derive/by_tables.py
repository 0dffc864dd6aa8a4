"""Derives tables that follow from other derived tables of their source, over their whole history.

For tables in which a row may follow from rows of any partition, such as versions of a dimension. The query is a rule of
the field over relations of the inputs; only partitions of the table whose rows differ are written. Tables whose
partitions follow from raw rows are derived by `by_partition`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.fingerprints import WHOLE, contents, digest, outdated, said_by
from lakehouse.derive.incremental import DeriveResult, derive_until_current, overwrite_changed
from lakehouse.derive.source import Source
from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import Query, Relation, relation_of
from lakehouse.progress import Progress

if TYPE_CHECKING:
    import duckdb

Rule = Callable[..., Query]
"""Makes the query of a table from one relation per input, in their order."""


def derive_from_tables(
    table: str,
    inputs: Sequence[str],
    rule: Rule,
    lake: Lake,
    source: Source,
    partitions: Sequence[date] = (),
    *,
    afresh: bool = False,
    verify: bool = False,
    progress: Progress = lambda *_: None,
) -> DeriveResult:
    """Brings the table in line with its inputs, whatever `partitions` are (see `lakehouse.derive.source.Derive`)."""
    made = derive_until_current(partial(_derive, table, inputs, rule, lake, source, afresh, verify))
    progress(table, 1, 1)
    return made


def tables_as_of(
    inputs: Sequence[str], rule: Rule, lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source
) -> str:
    """The query for the table's rows as of `lake.as_of`."""
    return rule(*(relation_of(lake.select(source.table(name), connection)) for name in inputs))


def _derive(
    table: str, inputs: Sequence[str], rule: Rule, lake: Lake, source: Source, afresh: bool, verify: bool
) -> tuple[DeriveResult, Sequence[Snapshot]]:
    target = lake.table(source.table(table)).snapshot()
    contract = target.table.contract
    part = contract.partition_by[0]
    columns = ", ".join(f'"{name}"' for name in contract.column_names)
    snapshots = [lake.table(source.table(name)).snapshot() for name in inputs]
    query = f"SELECT {columns} FROM ({rule(*(Relation(f'stored_{name}') for name in inputs))})"
    made_from = {WHOLE: digest(*map(_content, snapshots), query, said_by(contract))}
    if not afresh and not verify and not outdated(target, made_from):
        return DeriveResult(target.row_count()), ()
    with lake.connect() as connection:
        for name, snapshot in zip(inputs, snapshots, strict=True):
            connection.execute(f"CREATE TEMP VIEW stored_{name} AS {snapshot.select()}")
        connection.execute(f"CREATE TEMP TABLE fresh AS {query}")
        found = connection.execute(f"SELECT DISTINCT {part}::VARCHAR FROM fresh").fetchall()
        values = sorted({value for (value,) in found} | set(target.partition_values(part)))
        order = ", ".join(dict.fromkeys((part, *contract.key)))
        return overwrite_changed(connection, target, part, values, order, made_from, verify=verify), snapshots


def _content(snapshot: Snapshot) -> int:
    """What a table contains: equal numbers mean equal rows."""
    partitions = sorted(snapshot.partition_values(snapshot.table.contract.partition_by[0]))
    return digest(*sorted(contents(snapshot, partitions).items()))
