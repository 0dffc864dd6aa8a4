"""A table fixed at one version: queries for its rows and statistics, and commits on top of it.

A commit raises `StaleSnapshot` if another writer's conflicting commit came first. `opening` opens tables, `table`
repeats work on the newer state, and `commits` calls delta-rs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from lakehouse.errors import LakeUnavailable, TableNewer
from lakehouse.lake import commits, kept_open
from lakehouse.lake.contract import Migration, empty_relation
from lakehouse.lake.engine import opened
from lakehouse.lake.marks import ABOUT_ROWS, VOID, marks
from lakehouse.lake.parquet import version_of
from lakehouse.lake.sql import Partitions, Query, literal, predicate
from lakehouse.lake.stored_table import StoredTable
from lakehouse.lake.types import delta_text, name_of

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from deltalake import DeltaTable

T = TypeVar("T")

# Delta's statistics cut moments off to whole milliseconds.
_MILLISECOND = timedelta(milliseconds=1)

_COLUMNS_ADDED = "lakehouse/columns-added"
"""Transaction name that counts the commits that added columns. A table with it has files with and without them."""


@dataclass(frozen=True)
class Snapshot:
    """A table fixed at one version."""

    table: StoredTable
    delta: DeltaTable | None

    @property
    def version(self) -> int | None:
        """Delta's version number; None if the table was never written."""
        return None if self.delta is None else self.delta.version()

    @cached_property
    def lacking(self) -> list[str]:
        """The contract's columns that no stored file has, since an earlier release wrote them."""
        if self.delta is None:
            return []
        stored = {field.name for field in self.delta.schema().fields}
        return [name for name in self.table.contract.column_names if name not in stored]

    @cached_property
    def contract_version(self) -> int:
        """The version of the contract that the stored rows follow; the current one if the table was never written."""
        if self.delta is None:
            return self.table.contract.version
        return version_of(self.delta)

    @cached_property
    def _steps(self) -> tuple[Migration, ...]:
        """What makes rows of the present version of the contract of those of a past version of the table."""
        return self.table.contract.steps_from(self.contract_version) or ()

    @cached_property
    def differing(self) -> list[str]:
        """The differences of the stored columns and partitions from the contract, in words."""
        if self.delta is None:
            return []
        contract = self.table.contract
        # Not by pyarrow or Polars, whose imports take longer than a query.
        stored = {field.name: delta_text(field.type) for field in self.delta.schema().fields}
        found = [
            f"{column.name} is stored as {name_of(stored[column.name])}, not as {column.type}"
            for column in contract.columns
            if column.name in stored and stored[column.name] != column.type.delta
        ]
        parts = self.delta.metadata().partition_columns
        if parts != list(contract.partition_by):
            found.append(f"it is partitioned by {', '.join(parts)}, not by {', '.join(contract.partition_by)}")
        return found

    def files(self, partitions: Partitions | None = None) -> list[str]:
        """The names of all Parquet files, or of those in `partitions`."""
        if self.delta is None or (partitions is not None and not all(partitions.values())):
            return []
        if partitions is None:
            return self._named(self.delta.file_uris())
        return self._named(
            self.delta.file_uris(
                [(column, "in", [str(value) for value in values]) for column, values in partitions.items()]
            )
        )

    def files_by(self, column: str) -> dict[str, list[str]]:
        """The names of all Parquet files, by the value of a partition column."""
        found: dict[str, list[str]] = {}
        for row in self._statistics(f"partition.{column}"):
            found.setdefault(str(row[f"partition.{column}"]), []).append(row["path"])
        return found

    def refreshed(self) -> Snapshot:
        """The newest version, unless the table is pinned. Reads only the new entries of the log."""
        if self.delta is not None and self.table.pin is None:
            self.delta.update_incremental()
            self.table.location.open()
            self.table.location.require_whole(self.delta.version())
        return Snapshot(self.table, self.delta)

    def partition_values(self, column: str) -> list[str]:
        """The distinct values of a partition column, sorted."""
        if self.delta is None:
            return []
        return sorted({str(partition[column]) for partition in self.delta.partitions()})

    def select(self, partitions: Partitions | None = None) -> Query:
        """A DuckDB query for the rows in the contract's columns and types; typed even if there are no files."""
        if self._steps and partitions is not None and all(partitions.values()):
            return Query(f"SELECT * FROM ({self._select_from(self.files())}) WHERE {predicate(partitions)}")
        return self._select_from(self.files(partitions))

    def select_stored(self) -> Query:
        """A DuckDB query for the rows with the columns that are stored, rather than the contract's. The table must have
        files.
        """
        import pyarrow as pa

        assert self.delta is not None
        stored = pa.schema(self.delta.schema().to_arrow())
        kinds = {name: stored.field(name).type for name in self.delta.metadata().partition_columns}
        hive = {name: "DATE" if kind == pa.date32() else "VARCHAR" for name, kind in kinds.items()}
        return self._read(self.files(), [f'"{name}"' for name in stored.names], hive)

    def select_where(self, where: str) -> Query:
        """A DuckDB query for the rows that fulfil `where`, which compares columns with texts (ISO moments and dates,
        names). Files without such rows, by Delta's statistics, are not opened.
        """
        if self.delta is None or self._steps:
            files = self.files()
        else:
            files = self._named(self.delta.file_uris(file_pruning_predicate=where))
        return Query(f"SELECT * FROM ({self._select_from(files)}) WHERE {where}")

    def count_at_most(self, where: str) -> int:
        """The number of rows in the files that `select_where` would open."""
        if self.delta is None:
            return 0
        wanted = set(self._named(self.delta.file_uris(file_pruning_predicate=where)))
        known = self._statistics("num_records")
        return sum(row["num_records"] for row in known if self._in_table(row["path"]) in wanted)

    def row_count(self) -> int:
        """The number of stored rows, by Delta's statistics."""
        return sum(row["num_records"] for row in self._statistics("num_records"))

    def byte_count(self) -> int:
        """The size of the table's files, by Delta's log."""
        return sum(row["size_bytes"] for row in self._statistics("size_bytes"))

    def written_at(self) -> datetime | None:
        """When this version was committed; None if the table was never written."""
        if self.delta is None:
            return None
        return datetime.fromtimestamp(self.delta.history(1)[0]["timestamp"] / 1000, UTC)

    def rows_by(self, column: str) -> dict[str, int]:
        """The number of rows of each value of a partition column; values sorted."""
        found: dict[str, int] = {}
        for row in self._statistics("num_records", f"partition.{column}"):
            value = str(row[f"partition.{column}"])
            found[value] = found.get(value, 0) + row["num_records"]
        return dict(sorted(found.items()))

    def spans_by(self, column: str, first: str, last: str) -> dict[str, tuple[datetime, datetime]]:
        """The minimum of a column of moments and the maximum of another for each value of a partition column, by
        Delta's statistics (in whole milliseconds).
        """
        found: dict[str, tuple[datetime, datetime]] = {}
        for row in self._statistics(f"partition.{column}", f"min.{first}", f"max.{last}"):
            value, span = str(row[f"partition.{column}"]), (row[f"min.{first}"], row[f"max.{last}"])
            known = found.get(value, span)
            found[value] = (min(known[0], span[0]), max(known[1], span[1]))
        return found

    def min_where(self, column: str, by: str, moment: datetime) -> tuple[datetime | None, Query]:
        """The minimum of a column of moments over the files whose rows all have `by` >= `moment`, by Delta's statistics
        (in whole milliseconds); and a DuckDB query for the rows of the files in which only some have.
        """
        least, some = [], []
        for row in self._statistics(f"min.{by}", f"max.{by}", f"min.{column}"):
            if row[f"min.{by}"] >= moment:
                least.append(row[f"min.{column}"])
            elif row[f"max.{by}"] + _MILLISECOND >= moment:
                some.append(self._in_table(row["path"]))
        return min(least, default=None), self._select_from(some)

    def max_value(self, column: str) -> Any:
        """The maximum of a column of numbers or moments, by Delta's statistics (moments in whole milliseconds); None
        without rows.
        """
        return max((row[f"max.{column}"] for row in self._statistics(f"max.{column}")), default=None)

    def _named(self, uris: Iterable[str]) -> list[str]:
        return [self.table.location.file_name(uri) for uri in uris]

    def _in_table(self, path: str) -> str:
        """A file's name, from its path in the table."""
        return self.table.location.file_name(f"{self.table.location.uri}/{path}")

    def _statistics(self, *columns: str) -> list[dict[str, Any]]:
        if self.delta is None or not self.files():
            return []
        found = self.delta.get_add_actions(flatten=True)
        # Not by pyarrow, which imports pandas to tell what it is given.
        names = ("path", *columns)
        of_columns = [[value for chunk in found.column(name).chunks for value in chunk.to_pylist()] for name in names]
        return [dict(zip(names, values, strict=True)) for values in zip(*of_columns, strict=True)]

    def checkpoint(self, name: str) -> int | None:
        """The last number that commits stored under `name` by `checkpoints`."""
        delta = self.delta
        # Each call reads the log again: a millisecond and more.
        return None if delta is None else self.remembered(("checkpoint", name), lambda: delta.transaction_version(name))

    def commits(self, name: str) -> int:
        """The number of commits that had `name` among their `transactions`."""
        newest = self.checkpoint(name)
        return 0 if newest is None else newest + 1

    def marks(self, prefix: str) -> dict[str, int]:
        """The last number under each name with a prefix, by the rest of the name (see `lakehouse.lake.marks`)."""
        if self.delta is None:
            return {}
        folder, version = self.table.location.file_name(self.table.location.uri), self.delta.version()
        return self.remembered(("marks", prefix), lambda: marks(folder, version, prefix))

    def remembered(self, name: tuple[object, ...], make: Callable[[], T]) -> T:
        """What `make` computes of this version and nothing else; it is computed once while the table stays open."""
        return make() if self.delta is None else kept_open.remembered(self.delta, name, make)

    def mark(self, checkpoints: Mapping[str, int]) -> int:
        """Stores numbers, as `append` does, in a commit without rows; returns the new version."""
        rows = self.table.contract.arrow_schema.empty_table()
        return self._commit(rows, transactions=(), checkpoints=checkpoints, mode="append")

    def _select_from(self, files: Sequence[str]) -> Query:
        contract = self.table.contract
        if not files:
            return Query(f"FROM {empty_relation(contract)}")
        if self._steps:
            migrated = contract.migrated(self.select_stored(), self._steps)
            wanted = ", ".join(f'"{name}"' for name in contract.column_names)
            return Query(f"SELECT {wanted} FROM (FROM {empty_relation(contract)} UNION ALL BY NAME ({migrated}))")
        names = [
            f'NULL::{contract.column(name).type.duckdb} AS "{name}"' if name in self.lacking else f'"{name}"'
            for name in contract.column_names
        ]
        return self._read(files, names, {name: contract.column(name).type.duckdb for name in contract.partition_by})

    def _read(self, files: Sequence[str], columns: Sequence[str], hive_types: Mapping[str, str]) -> Query:
        # To unite the files' columns, DuckDB opens every file: do so only for tables that got columns later.
        mixed = ", union_by_name = true" if self.checkpoint(_COLUMNS_ADDED) is not None else ""
        hive = ", ".join(f"'{name}': {kind}" for name, kind in hive_types.items())
        listed = ", ".join(map(literal, files))
        read = f"read_parquet([{listed}], hive_partitioning = true, hive_types = {{{hive}}}{mixed})"
        return Query(f"SELECT {', '.join(columns)} FROM {read}")

    def select_dates(self, dates: Sequence[date] | None) -> Query:
        """A DuckDB query for the rows of some partitions (None: of all), which reads only the storage partitions that
        may hold them.
        """
        if dates is None:
            return self.select()
        part, column = self.table.contract.partition_by[0], self.table.contract.date_column
        if part == column:
            return self.select({part: dates})
        stored = self.select({part: self._holding(part, dates)})
        return Query(f"SELECT * FROM ({stored}) WHERE {predicate({column: dates})}")

    def _holding(self, part: str, dates: Sequence[date]) -> list[str]:
        """The storage partitions that may hold rows of some dates: each ends where the next one begins."""
        starts = self.partition_values(part)
        places = {bisect_right(starts, str(day)) - 1 for day in dates}
        return [starts[place] for place in sorted(places) if place >= 0]

    def files_by_date(self, dates: Iterable[str]) -> dict[str, list[str]]:
        """The names of the files, sorted, that may hold rows of each date."""
        stored = self.files_by(self.table.contract.partition_by[0])
        starts = sorted(stored)
        exact = self.table.contract.partition_by[0] == self.table.contract.date_column
        found = {}
        for day in dates:
            place = bisect_right(starts, day) - 1
            holding = starts[place] if place >= 0 and not (exact and starts[place] != day) else None
            found[day] = sorted(stored[holding]) if holding else []
        return found

    def dates(self) -> list[date]:
        """The partitions that have rows, ascending."""
        part, column = self.table.contract.partition_by[0], self.table.contract.date_column
        if part == column:
            return [date.fromisoformat(value) for value in self.partition_values(part)]
        return sorted(self.scan().select(column).unique().collect()[column].to_list())

    def scan(self) -> pl.LazyFrame:
        """A lazy Polars scan, columns in the contract's order."""
        import polars as pl

        contract = self.table.contract
        if self.delta is None or not self.files():
            return pl.DataFrame(schema=contract.polars_schema).lazy()
        types = contract.polars_schema
        if self._steps:
            with opened(self.table.uri) as connection:
                return connection.sql(self.select()).pl().lazy()
        if self.table.location.is_plain:
            added = [pl.lit(None, types[name]).alias(name) for name in self.lacking]
            return pl.scan_delta(self.delta).with_columns(added).select(contract.column_names)
        return pl.scan_parquet(
            self.files(),
            schema=pl.Schema({name: kind for name, kind in types.items() if name not in contract.partition_by}),
            hive_schema={name: types[name] for name in contract.partition_by},
            hive_partitioning=True,
            glob=False,
            missing_columns="insert",
            extra_columns="ignore",
            storage_options=self.table.storage_options or None,
        ).select(contract.column_names)

    def append(self, rows: pa.Table, transactions: Iterable[str], checkpoints: Mapping[str, int] | None = None) -> int:
        """Appends rows in one commit; returns the new version.

        Args:
            transactions: names of what the rows belong to, such as a source's partition. Of two writers that append
                under the same name from the same snapshot, the second gets `StaleSnapshot` and must check whether the
                first wrote the same rows. Different names never conflict.
            checkpoints: name of an input -> a number that says how much of it the table contains after this commit.
        """
        return self._commit(rows, transactions=transactions, checkpoints=checkpoints, mode="append")

    def append_stream(
        self, rows: pa.RecordBatchReader, partitions: Iterable[str], checkpoints: Mapping[str, int]
    ) -> int:
        """Appends rows as they are read, in one commit, so that they needn't fit in memory (see `append`).

        Args:
            partitions: the values of the first partition column that the rows have.
        """
        folders = [f"{self.table.contract.partition_by[0]}={value}" for value in partitions]
        return self._commit(rows, transactions=(), checkpoints=checkpoints, folders=folders, mode="append")

    def overwrite(
        self,
        rows: pa.Table | pa.RecordBatchReader,
        where: str,
        transactions: Iterable[str] = (),
        checkpoints: Mapping[str, int] | None = None,
        folders: Iterable[str] = (),
    ) -> int:
        """Replaces the rows that fulfil `where` by `rows` in one commit; returns the new version. Raises
        `StaleSnapshot` if another writer changed rows inside `where` since the snapshot.

        Args:
            rows: a reader of more rows than fit in memory needs the `folders` of their partitions.
            where: should name partitions (see `predicate`), so that files of other partitions are not touched.
            transactions: names of what was read outside `where`. Of two writers from the same snapshot that share a
                name, the second is stale, wherever it writes.
            checkpoints: as for `append`.
        """
        how = {"mode": "overwrite", "predicate": where}
        return self._commit(rows, transactions=transactions, checkpoints=checkpoints, folders=folders, **how)

    def delete(self, where: str) -> int:
        """Deletes the rows that fulfil `where` in one commit; returns the new version. Raises `StaleSnapshot` if a
        conflicting commit came first.
        """
        return commits.delete(self.table, self._writable(), where, self._void())

    def restore(self, version: int) -> None:
        """Restores the rows of a version in one commit. Raises `StaleSnapshot` if a conflicting commit came first."""
        commits.restore(self.table, self._writable(), version, self._void())

    def _void(self) -> dict[str, int]:
        """The numbers that make those void which are about rows (see `lakehouse.lake.marks`)."""
        return {f"{prefix}{name}": VOID for prefix in ABOUT_ROWS for name in self.marks(prefix)}

    def migrate(self, rows: pa.RecordBatchReader, folders: Iterable[str]) -> None:
        """Replaces all rows, the columns and the partitions by those of the contract in one commit. Raises
        `StaleSnapshot` if there was any commit since the snapshot.

        Args:
            rows: of the contract's `stored_schema`.
            folders: of the rows' partitions, directly below the table's own.
        """
        assert self.delta is not None
        commits.migrate(self.table, self.delta, rows, folders, self._void())

    def _commit(
        self,
        rows: pa.Table | pa.RecordBatchReader,
        *,
        transactions: Iterable[str],
        checkpoints: Mapping[str, int] | None,
        folders: Iterable[str] | None = None,
        **how: Any,
    ) -> int:
        delta = self._writable()
        numbers = {name: _next(delta, name) for name in sorted(set(transactions))} | dict(checkpoints or {})
        if self.lacking:
            numbers[_COLUMNS_ADDED] = _next(delta, _COLUMNS_ADDED)
            how["schema_mode"] = "merge"
        return commits.write(self.table, delta, rows, numbers, how, folders=folders)

    def _writable(self) -> DeltaTable:
        """The snapshot's table, created (empty) if it doesn't exist.

        Raises:
            LakeUnavailable: it is pinned, or can't be created.
            TableNewer: a later version of its contract wrote it.
            StaleSnapshot: another writer created and wrote it meanwhile.
        """
        table, contract = self.table, self.table.contract
        if table.pin is not None:
            raise LakeUnavailable(
                f"{table.name} is served as of a release or publication, which is read-only; open the lake by "
                "Lake.present() to write to it"
            )
        if self.contract_version > contract.version:
            raise TableNewer(
                f"{table.name} was written by version {self.contract_version} of its contract, and this is "
                f"version {contract.version}: update Lakehouse to write it; until then it can only be read"
            )
        return commits.create(table) if self.delta is None else self.delta


def _next(delta: DeltaTable, name: str) -> int:
    known = delta.transaction_version(name)
    return 0 if known is None else known + 1
