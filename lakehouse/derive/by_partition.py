"""Derives tables in which each partition follows only from a dataset's raw rows and the ledger.

A table that also depends on its own other partitions, such as one with the previous close, has its own derivation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lakehouse.derive.fingerprints import Fingerprints, digest, of_entries, of_frames, outdated, said_by
from lakehouse.derive.incremental import DeriveResult, derive_until_current, overwrite_changed
from lakehouse.derive.source import Source
from lakehouse.ingest.ledger import LEDGER, about
from lakehouse.lake.compute import divided, fitting
from lakehouse.lake.contract import empty_relation
from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import Query, Relation, literal, relation_of
from lakehouse.progress import Progress

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

# DuckDB and Arrow need about 1 GB with so many rows.
ROWS_AT_ONCE = 600_000
# A task on a cluster takes about as long to start as one partition of a small dataset to derive.
LEAST_PARTITIONS = 4
# With more rows, such as those of a register of all instruments, what is derived is sorted and kept on disk, in a
# DuckDB of its own with little memory.
_IN_MEMORY_ROWS = 2_500_000
_MEMORY = "1GB"

_RAW = Relation("raw_rows")
_ENTRIES = Relation("ledger_entries")
"""What the rules are made with: with the names of files in it, the text of a query would not be that of a rule."""

Rules = Callable[[Any, "duckdb.DuckDBPyConnection", Relation, Relation], str]
"""Makes the query of a source's table from relations of the raw rows and of the dataset's ledger rows; registers any
other inputs in the connection.
"""


def derive_by_partition(
    dataset: str,
    table: str,
    rules: Rules,
    lake: Lake,
    source: Source,
    partitions: Sequence[date],
    *,
    afresh: bool = False,
    verify: bool = False,
    progress: Progress = lambda *_: None,
) -> DeriveResult:
    """Brings the rows of `partitions` in line with the dataset's raw rows and the ledger, oldest first, in batches that
    fit in memory (see `lakehouse.derive.source.Derive`).
    """
    if not afresh and not verify:
        partitions = outdated_partitions(dataset, table, rules, lake, source, partitions)
    ordered = sorted(partitions)
    most = fitting([lake.table(source.dataset(dataset).table).snapshot()], ordered, ROWS_AT_ONCE)
    batches = divided(ordered, lake.compute, least=LEAST_PARTITIONS, most=most)
    task = partial(_derive_batch, dataset, table, rules, source, verify)
    return sum(lake.compute.map(lake, task, batches, f"partitions of {table}", progress), DeriveResult())


def derive_whole(
    dataset: str,
    table: str,
    rules: Rules,
    lake: Lake,
    source: Source,
    partitions: Sequence[date],
    *,
    afresh: bool = False,
    verify: bool = False,
    progress: Progress = lambda *_: None,
) -> DeriveResult:
    """The same for a dataset with a single partition (see `Whole`): derives it, whatever `partitions` are."""
    single = [source.dataset(dataset).partitioning.first]
    how: dict[str, Any] = {"afresh": afresh, "verify": verify, "progress": progress}
    return derive_by_partition(dataset, table, rules, lake, source, single, **how)


def outdated_partitions(
    dataset: str, table: str, rules: Rules, lake: Lake, source: Source, partitions: Sequence[date]
) -> list[date]:
    """The partitions that were not made from the present inputs, ascending."""
    target = lake.table(source.table(table)).snapshot()
    with lake.connect() as connection:
        entries = about(lake.table(LEDGER).snapshot(), source.name, dataset, partitions)
        _, made_from = _prepared(connection, dataset, rules, source, target, entries, partitions, None)
    return sorted(date.fromisoformat(partition) for partition in outdated(target, made_from))


def partitions_as_of(
    dataset: str, rules: Rules, lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source
) -> str:
    """The query for the table's rows as of `lake.as_of`."""
    raw, ledger = raw_and_ledger(dataset, lake, connection, source)
    return rules(source, connection, raw, ledger)


def raw_and_ledger(
    dataset: str, lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source
) -> tuple[Relation, Relation]:
    """Relations of a dataset's raw rows, and of its ledger rows as of `lake.as_of`, which say which raw rows count."""
    ledger = f"SELECT * FROM ({lake.select(LEDGER, connection, {'source': [source.name]})})"
    stored = lake.table(source.dataset(dataset).table).snapshot().select()
    return relation_of(stored), relation_of(f"{ledger} WHERE product = {literal(dataset)}")


def differing_as_of(
    dataset: str, rules: Rules, lake: Lake, source: Source, target: Snapshot, partitions: Sequence[date]
) -> list[date]:
    """Those of the partitions whose rows in `target` may not be those as of `lake.as_of`: the fingerprint of what they
    would be made from then is another. All of them where the table can't tell.
    """
    if not can_tell(lake, target):
        return list(partitions)

    def made_from() -> Fingerprints:
        with lake.connect() as connection:
            _, ledger = raw_and_ledger(dataset, lake, connection, source)
            entries = Query(f"SELECT * FROM {ledger}")
            return _prepared(connection, dataset, rules, source, target, entries, partitions, None)[1]

    return outdated_as_of(lake, target, partitions, made_from)


def outdated_as_of(
    lake: Lake, target: Snapshot, partitions: Sequence[date], made_from: Callable[[], Fingerprints], *inputs: Snapshot
) -> list[date]:
    """Those of the partitions in `target` whose fingerprints are not the ones that `made_from` computes of the lake's
    moment, ascending. A lake compares them once for each version of the ledger, of the other inputs and of `target`.
    """

    def compared() -> list[date]:
        return sorted(date.fromisoformat(partition) for partition in outdated(target, made_from()))

    versions = [table.version for table in (lake.table(LEDGER).snapshot(), *inputs, target)]
    return lake.remembered(f"outdated {target.table.name}", (versions, list(partitions)), compared)


def can_tell(lake: Lake, target: Snapshot) -> bool:
    """Whether the fingerprints of a stored table are about the rows that it has, as of a moment. A pinned version's may
    be later ones (see `lakehouse.lake.marks`), and a table of an earlier contract is migrated first.
    """
    is_current = target.contract_version == target.table.contract.version
    return lake.as_of is not None and target.table.pin is None and is_current


def _prepared(
    connection: duckdb.DuckDBPyConnection,
    dataset: str,
    rules: Rules,
    source: Source,
    target: Snapshot,
    entries_of: Query,
    partitions: Sequence[date],
    raw: Query | None,
) -> tuple[str, dict[str, int]]:
    """The query for the rows of the partitions, whose inputs it makes in the connection, and their fingerprints.

    Args:
        entries_of: the dataset's ledger rows about the partitions.
        raw: the raw rows; None where only the fingerprints are wanted.
    """
    contract = target.table.contract
    no_rows = f"FROM {empty_relation(source.dataset(dataset).contract)}"
    connection.execute(f"CREATE TEMP VIEW {_RAW} AS {raw or no_rows}")
    connection.execute(f"CREATE TEMP TABLE {_ENTRIES} AS {entries_of}")
    derived = rules(source, connection, _RAW, _ENTRIES)
    entries = of_entries(connection, _ENTRIES)
    frames = of_frames(connection, contract.partition_by[0], [_RAW])
    facts = (derived, said_by(contract), frames.get(None))
    return derived, {
        partition: digest(entries.get(partition), frames.get(partition), *facts) for partition in map(str, partitions)
    }


def _derive_batch(
    dataset: str,
    table: str,
    rules: Rules,
    source: Source,
    verify: bool,
    lake: Lake,
    partitions: Sequence[date],
    progress: Progress,
) -> DeriveResult:
    return derive_until_current(partial(_batch, dataset, table, rules, lake, source, partitions, verify))


def _batch(
    dataset: str, table: str, rules: Rules, lake: Lake, source: Source, partitions: Sequence[date], verify: bool
) -> tuple[DeriveResult, Sequence[Snapshot]]:
    target = lake.table(source.table(table)).snapshot()
    part = target.table.contract.partition_by[0]
    wanted, order = {part: partitions}, ", ".join(dict.fromkeys((part, *target.table.contract.key)))
    # Take the ledger's snapshot before the raw table's: a load writes raw rows first, so every version that the
    # ledger names has its rows in the raw snapshot.
    ledger = lake.table(LEDGER).snapshot()
    stored = lake.table(source.dataset(dataset).table).snapshot()
    raw, by_part = stored.select(wanted), stored.rows_by(part)
    is_large = sum(by_part.get(str(each), 0) for each in partitions) > _IN_MEMORY_ROWS
    with lake.connect(memory=_MEMORY if is_large else None) as connection, TemporaryDirectory() as folder:
        entries = about(ledger, source.name, dataset, partitions)
        derived, made_from = _prepared(connection, dataset, rules, source, target, entries, partitions, raw)
        rows: pa.Table | Path | None = None
        if is_large:
            rows = Path(folder, "fresh.parquet")
            connection.execute(
                f"COPY ({derived} ORDER BY {order}) TO {literal(str(rows))} (FORMAT parquet, COMPRESSION zstd); "
                f"CREATE TEMP VIEW fresh AS FROM read_parquet({literal(str(rows))})"
            )
        elif target.files(wanted):
            connection.execute(f"CREATE TEMP TABLE fresh AS {derived}")
        else:
            # Nothing is stored yet: write all rows without a comparison.
            rows = connection.sql(f"{derived} ORDER BY {order}").to_arrow_table()
            connection.register("fresh", rows)
        made = overwrite_changed(connection, target, part, partitions, order, made_from, verify=verify, rows=rows)
        return made, (ledger,)
