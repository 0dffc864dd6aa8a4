"""Migrates tables that an earlier version of their contract wrote.

A contract says in SQL how the rows of one version become those of the next. The steps are made one after another by
DuckDB, the result is held against the contract, and one commit replaces the table. A run that is killed has changed
nothing; of two runs at once, the second finds that there is nothing left to do.

A derived table whose contract says so is derived again from the present tables of its source, in the same one commit,
so that it equals a rebuild. Its inputs are migrated before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.lake.contract import Contract, ContractError, Migration, empty_relation
from lakehouse.lake.folders import folders
from lakehouse.lake.parquet import stored_schema
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.table import LakeTable, retry_when_stale
from lakehouse.lake.validation import broken_rules
from lakehouse.progress import Progress

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from lakehouse.lake.lake import Lake

_BATCH_ROWS = 100_000


@dataclass(frozen=True)
class Due:
    """A table that an earlier version of its contract wrote."""

    name: str
    stored_version: int
    version: int
    steps: tuple[Migration, ...]
    """What leads to the present version."""
    obstacle: str | None = None
    """Why the table can't be migrated, and the fix."""

    def __str__(self) -> str:
        head = f"{self.name}: version {self.stored_version} to {self.version}"
        if self.obstacle is not None:
            return f"{head}: {self.obstacle}"
        return "\n".join([head, *(f"  {step.from_version + 1}: {step.changes}" for step in self.steps)])


def due(lake: Lake) -> list[Due]:
    """The tables of the lake that an earlier version of their contract wrote, derived ones after their inputs."""
    found = [(table, table.stored().contract_version) for table in stored_tables(lake)]
    outdated = [_due(lake, table, version) for table, version in found if version < table.contract.version]
    return sorted(outdated, key=lambda table: _is_derived(table.steps))


def _due(lake: Lake, table: LakeTable, version: int) -> Due:
    contract = table.contract
    steps, obstacle = contract.steps_from(version), None
    if steps is None:
        obstacle = "has no migration; load its sources into a new lake"
    elif contract.lacks_parameters(steps) or (_is_derived(steps) and lake.registry.entry(table.name).as_of is None):
        source = table.name.rpartition("/")[0]
        obstacle = f"no defs.yaml that can be read describes {source}; put its file back, or correct it"
    return Due(table.name, version, contract.version, steps or (), obstacle)


def _is_derived(steps: Iterable[Migration]) -> bool:
    return any(step.derived for step in steps)


def stored_tables(lake: Lake) -> list[LakeTable]:
    """Every table with a folder and a contract. Unlike `Lake.tables`, this reads no table."""
    found = []
    for folder in folders(lake.uri):
        table = _table(lake, folder)
        inner = [] if table else [_table(lake, f"{folder}/{name}") for name in folders(f"{lake.uri}/{folder}")]
        found += [each for each in (table, *inner) if each is not None]
    return found


def migrate_table(lake: Lake, name: str, progress: Progress = lambda *_: None) -> int:
    """Brings a table to the current version of its contract; returns the number of rewritten rows, 0 if another run has
    already done it.

    Raises:
        ContractError: a migration is missing, or its rows don't fulfil the contract. Nothing is changed.
    """
    table = lake.table(name)
    return retry_when_stale(lambda: _migrated(lake, table, progress))


def _migrated(lake: Lake, table: LakeTable, progress: Progress) -> int:
    stored = table.stored()
    contract = table.contract
    if stored.contract_version >= contract.version:
        return 0
    found = _due(lake, table, stored.contract_version)
    if found.obstacle is not None:
        raise ContractError(str(found))
    progress(table.name, 0, 0)
    with lake.connect() as connection:
        total = _make(connection, contract, _query_of(lake, connection, stored, found.steps))
        _require_sound(connection, contract)
        part = contract.partition_by[0]
        values = connection.execute(f'SELECT DISTINCT "{part}"::VARCHAR FROM migrated').fetchall()
        order = ", ".join(f'"{name}"' for name in dict.fromkeys((*contract.partition_by, *contract.key)))
        rows = connection.execute(f"FROM migrated ORDER BY {order}").to_arrow_reader(_BATCH_ROWS)
        stored.migrate(
            _counted(rows, contract, table.name, total, progress), [f"{part}={value}" for (value,) in values]
        )
    return total


def _query_of(lake: Lake, connection: duckdb.DuckDBPyConnection, stored: Snapshot, steps: tuple[Migration, ...]) -> str:
    """The query of a table's rows by the present version of its contract."""
    table, derive = stored.table, lake.registry.entry(stored.table.name).as_of
    if not stored.files():
        return f"FROM {empty_relation(table.contract)}"
    if _is_derived(steps) and derive is not None:
        return derive(lake, connection)
    return table.contract.migrated(stored.select_stored(), steps)


def _make(connection: duckdb.DuckDBPyConnection, contract: Contract, query: str) -> int:
    """Makes the temporary table `migrated`, and returns how many rows it has."""
    given, types = _types(connection, query), _types(connection, f"FROM {empty_relation(contract)}")
    lacking = [name for name in types if name not in given]
    wrong = [
        f"{name} is a {kind}, not a {types[name]}" for name, kind in given.items() if kind != types.get(name, kind)
    ]
    wrong += [f"{name} is not a column of the contract" for name in given if name not in types]
    wrong += [f"{name} is missing" for name in lacking if not contract.column(name).nullable]
    if wrong:
        raise _unsound(contract, wrong)
    columns = ", ".join(f'NULL::{types[name]} AS "{name}"' if name in lacking else f'"{name}"' for name in types)
    connection.execute(f"CREATE TEMP TABLE migrated AS SELECT {columns} FROM ({query})")
    row = connection.execute("SELECT count(*) FROM migrated").fetchone()
    assert row is not None
    return int(row[0])


def _types(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, str]:
    relation = connection.sql(query)
    return dict(zip(relation.columns, map(str, relation.types), strict=True))


def _require_sound(connection: duckdb.DuckDBPyConnection, contract: Contract) -> None:
    """Checks that the migrated rows fulfil the rules that no source can waive, and that their key is unique."""
    waivable = {rule.name for rule in contract.rules if rule.waived_by}
    rules = {name: rule for name, rule in contract.predicates.items() if name not in waivable}
    broken = broken_rules(rules, connection, "migrated")
    wrong = [f"{rules[name][1]} ({count:,} rows)" for name, count in broken.items()]
    key = ", ".join(f'"{name}"' for name in contract.key)
    if connection.execute(f"SELECT 1 FROM migrated GROUP BY {key} HAVING count(*) > 1 LIMIT 1").fetchone():
        wrong.append(f"the key {', '.join(contract.key)} is not unique")
    if wrong:
        raise _unsound(contract, wrong)


def _unsound(contract: Contract, wrong: list[str]) -> ContractError:
    return ContractError(
        f"the migrations of {contract.table} give rows that its contract refuses: {'; '.join(wrong)}. Nothing was "
        "changed; correct `migrations` in the contract"
    )


def _counted(
    rows: pa.RecordBatchReader, contract: Contract, name: str, total: int, progress: Progress
) -> pa.RecordBatchReader:
    import pyarrow as pa

    schema = stored_schema(contract)

    def batches() -> Iterator[pa.RecordBatch]:
        done = 0
        for batch in rows:
            yield from pa.Table.from_batches([batch]).cast(schema).to_batches()
            done += batch.num_rows
            progress(name, done, total)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _table(lake: Lake, name: str) -> LakeTable | None:
    try:
        return lake.table(name)
    except ContractError:
        return None
