"""A table fixed at one version: what is read of it, and the commits that go on top of it.

A commit raises `StaleSnapshot` when another writer got in between. Opening tables and working again on what that writer
left stand in `table`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lakehouse.errors import LakeUnavailable, StaleSnapshot, TableNewer, in_one_line
from lakehouse.lake.contract import empty_relation
from lakehouse.lake.parquet import stored_schema, unsliced, version_of, writer_properties
from lakehouse.lake.sql import Partitions, literal, predicate

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from deltalake import DeltaTable

    from lakehouse.lake.table import LakeTable

# Delta keeps the least and greatest moments of a file in whole milliseconds, cut off.
_MILLISECOND = timedelta(milliseconds=1)

_COLUMNS_ADDED = "lakehouse/columns-added"
"""Name under which a table counts the commits that added columns: it has files with and without them."""

_CONFIGURATION = {
    "delta.logRetentionDuration": "interval 30 days",
    "delta.deletedFileRetentionDuration": "interval 7 days",
}


@dataclass(frozen=True)
class Snapshot:
    """A table fixed at one version."""

    table: LakeTable
    delta: DeltaTable | None

    @property
    def version(self) -> int | None:
        """Delta's version number; None where nothing was ever written."""
        return None if self.delta is None else self.delta.version()

    @cached_property
    def lacking(self) -> list[str]:
        """The contract's columns that no stored file has, as an earlier release wrote them all."""
        if self.delta is None:
            return []
        stored = {field.name for field in self.delta.schema().fields}
        return [name for name in self.table.contract.column_names if name not in stored]

    @cached_property
    def contract_version(self) -> int:
        """The version of the contract that the stored rows follow; of a table never written, the present one."""
        if self.delta is None:
            return self.table.contract.version
        return version_of(self.delta)

    @cached_property
    def differing(self) -> list[str]:
        """What the stored columns and partitions are otherwise than the contract says, in words."""
        if self.delta is None:
            return []
        import pyarrow as pa

        contract = self.table.contract
        stored = pa.schema(self.delta.schema().to_arrow())
        found = [
            f"{column.name} is stored as {stored.field(column.name).type}, not as {column.type}"
            for column in contract.columns
            if column.name in stored.names and stored.field(column.name).type != column.type.arrow
        ]
        parts = self.delta.metadata().partition_columns
        if parts != list(contract.partition_by):
            found.append(f"it is partitioned by {', '.join(parts)}, not by {', '.join(contract.partition_by)}")
        return found

    def files(self, partitions: Partitions | None = None) -> list[str]:
        """The names of the Parquet files, all of them or those of `partitions`."""
        if self.delta is None or (partitions is not None and not all(partitions.values())):
            return []
        if partitions is None:
            return self._named(self.delta.file_uris())
        return self._named(
            self.delta.file_uris(
                [(column, "in", [str(value) for value in values]) for column, values in partitions.items()]
            )
        )

    def refreshed(self) -> Snapshot:
        """The newest version, where the table isn't pinned; only what is new in the log is read."""
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

    def select(self, partitions: Partitions | None = None) -> str:
        """A DuckDB query for the rows, in the contract's columns and types; empty, but typed, where there is no
        file.
        """
        return self._select_from(self.files(partitions))

    def select_stored(self) -> str:
        """A DuckDB query for the rows as they are stored, whatever the contract says, of a table with files."""
        import pyarrow as pa

        assert self.delta is not None
        stored = pa.schema(self.delta.schema().to_arrow())
        kinds = {name: stored.field(name).type for name in self.delta.metadata().partition_columns}
        hive = {name: "DATE" if kind == pa.date32() else "VARCHAR" for name, kind in kinds.items()}
        return self._read(self.files(), [f'"{name}"' for name in stored.names], hive)

    def select_where(self, where: str) -> str:
        """A DuckDB query for the rows that fulfil `where`, which compares columns with texts (ISO moments and dates,
        names); files that can hold none, by the least and greatest values that Delta keeps, are not opened.
        """
        files = [] if self.delta is None else self._named(self.delta.file_uris(file_pruning_predicate=where))
        return f"SELECT * FROM ({self._select_from(files)}) WHERE {where}"

    def count_at_most(self, where: str) -> int:
        """How many rows the files have that `select_where` would open."""
        if self.delta is None:
            return 0
        wanted = set(self._named(self.delta.file_uris(file_pruning_predicate=where)))
        known = self._statistics("num_records")
        return sum(row["num_records"] for row in known if self._in_table(row["path"]) in wanted)

    def row_count(self) -> int:
        """How many rows are stored, as Delta keeps it."""
        return sum(row["num_records"] for row in self._statistics("num_records"))

    def rows_by(self, column: str) -> dict[str, int]:
        """How many rows each value of a partition column has, the values sorted."""
        found: dict[str, int] = {}
        for row in self._statistics("num_records", f"partition.{column}"):
            value = str(row[f"partition.{column}"])
            found[value] = found.get(value, 0) + row["num_records"]
        return dict(sorted(found.items()))

    def min_where(self, column: str, by: str, moment: datetime) -> tuple[datetime | None, str]:
        """The least value of a column of moments over the files in which all rows have `by` >= `moment`, as Delta keeps
        it (in whole milliseconds), and a DuckDB query for the rows of those files in which some have.
        """
        least, some = [], []
        for row in self._statistics(f"min.{by}", f"max.{by}", f"min.{column}"):
            if row[f"min.{by}"] >= moment:
                least.append(row[f"min.{column}"])
            elif row[f"max.{by}"] + _MILLISECOND >= moment:
                some.append(self._in_table(row["path"]))
        return min(least, default=None), self._select_from(some)

    def max_value(self, column: str) -> datetime | None:
        """The greatest value of a column of moments in whole milliseconds, as Delta keeps it; None without rows."""
        return max((row[f"max.{column}"] for row in self._statistics(f"max.{column}")), default=None)

    def _named(self, uris: Iterable[str]) -> list[str]:
        return [self.table.location.file_name(uri) for uri in uris]

    def _in_table(self, path: str) -> str:
        """The name of a file, by its path in the table."""
        return self.table.location.file_name(f"{self.table.location.uri}/{path}")

    def _statistics(self, *columns: str) -> list[dict[str, Any]]:
        import pyarrow as pa

        if self.delta is None or not self.files():
            return []
        return pa.table(self.delta.get_add_actions(flatten=True)).select(["path", *columns]).to_pylist()

    def checkpoint(self, name: str) -> int | None:
        """How far of what `name` names this table has come, as commits with `checkpoints` said it."""
        return None if self.delta is None else self.delta.transaction_version(name)

    def commits(self, name: str) -> int:
        """How many commits have been made under a name of `transactions`."""
        newest = self.checkpoint(name)
        return 0 if newest is None else newest + 1

    def _select_from(self, files: Sequence[str]) -> str:
        contract = self.table.contract
        if not files:
            return f"FROM {empty_relation(contract)}"
        names = [
            f'NULL::{contract.column(name).type.duckdb} AS "{name}"' if name in self.lacking else f'"{name}"'
            for name in contract.column_names
        ]
        return self._read(files, names, {name: contract.column(name).type.duckdb for name in contract.partition_by})

    def _read(self, files: Sequence[str], columns: Sequence[str], hive_types: Mapping[str, str]) -> str:
        # DuckDB opens every file to unite their columns, so only tables that got some later pay for it.
        mixed = ", union_by_name = true" if self.checkpoint(_COLUMNS_ADDED) is not None else ""
        hive = ", ".join(f"'{name}': {kind}" for name, kind in hive_types.items())
        listed = ", ".join(map(literal, files))
        read = f"read_parquet([{listed}], hive_partitioning = true, hive_types = {{{hive}}}{mixed})"
        return f"SELECT {', '.join(columns)} FROM {read}"

    def select_dates(self, dates: Sequence[date] | None) -> str:
        """A DuckDB query for the rows that count to some partitions (None: to any), reading only the storage partitions
        that can hold them.
        """
        if dates is None:
            return self.select()
        part, column = self.table.contract.partition_by[0], self.table.contract.date_column
        if part == column:
            return self.select({part: dates})
        stored = self.select({part: self._holding(part, dates)})
        return f"SELECT * FROM ({stored}) WHERE {predicate({column: dates})}"

    def _holding(self, part: str, dates: Sequence[date]) -> list[str]:
        """The storage partitions that rows of some dates may be in: each holds those from its first day to the next."""
        starts = self.partition_values(part)
        places = {bisect_right(starts, str(day)) - 1 for day in dates}
        return [starts[place] for place in sorted(places) if place >= 0]

    def dates(self) -> list[date]:
        """The partitions that rows count to, ascending."""
        part, column = self.table.contract.partition_by[0], self.table.contract.date_column
        if part == column:
            return [date.fromisoformat(value) for value in self.partition_values(part)]
        return sorted(self.scan().select(column).unique().collect()[column].to_list())

    def scan(self) -> pl.LazyFrame:
        """A lazy Polars scan, columns in the contract's order."""
        import polars as pl

        contract = self.table.contract
        if self.delta is None or not self.files():
            return pl.DataFrame(schema=pl.Schema(contract.arrow_schema)).lazy()
        types = pl.Schema(contract.arrow_schema)
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
        """Commits `rows` on top of this snapshot and returns the new version.

        `transactions` names what the rows belong to (a source's session). Of two writers that append under the
        same name from the same snapshot, the second gets `StaleSnapshot`: it has to look whether the first brought
        the same rows. Other names never conflict. `checkpoints` says, in the same commit, how far of an input (name ->
        a number of its own) the table has come.
        """
        return self._commit(self._writable(), rows, transactions=transactions, checkpoints=checkpoints, mode="append")

    def overwrite(
        self,
        rows: pa.Table,
        where: str,
        transactions: Iterable[str] = (),
        checkpoints: Mapping[str, int] | None = None,
    ) -> int:
        """Replaces the rows that fulfil `where` by `rows` in one commit and returns the new version.

        `where` should name partitions (see `predicate`): then files of other partitions are not touched. Raises
        `StaleSnapshot` when another writer changed rows inside `where` since the snapshot. Who has read beyond `where`
        names that in `transactions`: of two writers from the same snapshot that share a name, the second is stale
        wherever it writes. `checkpoints` as for `append`.
        """
        how = {"mode": "overwrite", "predicate": where}
        return self._commit(self._writable(), rows, transactions=transactions, checkpoints=checkpoints, **how)

    def delete(self, where: str) -> int:
        """Deletes the rows that fulfil `where` in one commit and returns the new version. Raises `StaleSnapshot` when
        another writer got in between.
        """
        from deltalake import CommitProperties

        delta = self._writable()
        with self._explained():
            delta.delete(
                where,
                writer_properties=writer_properties(self.table.contract),
                commit_properties=CommitProperties(max_commit_retries=100),
            )
        return delta.version()

    def migrate(self, rows: pa.RecordBatchReader, partitions: Iterable[str]) -> None:
        """Replaces all rows, the columns and the partitions by those of the contract in one commit. Any commit of
        another writer since the snapshot raises `StaleSnapshot`.

        Args:
            rows: of the contract's `stored_schema`.
            partitions: the folders, directly below the table's own, that the rows' files will be in.
        """
        from deltalake import CommitProperties, write_deltalake

        assert self.delta is not None
        contract = self.table.contract
        with self._explained():
            self.table.location.create(partitions)
            write_deltalake(
                self.delta,
                rows,
                mode="overwrite",
                schema_mode="overwrite",
                partition_by=list(contract.partition_by),
                writer_properties=writer_properties(contract),
                # On a second try delta-rs would put the new columns beside the old partitions.
                commit_properties=CommitProperties(max_commit_retries=0),
            )

    def _commit(
        self,
        delta: DeltaTable,
        rows: pa.Table,
        *,
        transactions: Iterable[str],
        checkpoints: Mapping[str, int] | None,
        **how: Any,
    ) -> int:
        from deltalake import CommitProperties, Transaction, write_deltalake

        named = [Transaction(name, self._next(delta, name)) for name in sorted(set(transactions))]
        named += [Transaction(name, version) for name, version in (checkpoints or {}).items()]
        if self.lacking:
            named.append(Transaction(_COLUMNS_ADDED, self._next(delta, _COLUMNS_ADDED)))
            how["schema_mode"] = "merge"
        properties = CommitProperties(max_commit_retries=100, app_transactions=named or None)
        with self._explained():
            self.table.location.create(self._partitions_of(rows))
            write_deltalake(
                delta,
                unsliced(rows.select(self.table.contract.column_names).cast(self.table.contract.arrow_schema)),
                writer_properties=writer_properties(self.table.contract),
                commit_properties=properties,
                **how,
            )
        return delta.version()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Says of an error of delta-rs whether another writer or the storage is its cause."""
        from deltalake.exceptions import CommitFailedError, DeltaError

        try:
            yield
        except CommitFailedError as error:
            raise StaleSnapshot(f"{self.table.name}: {error}") from error
        except (OSError, DeltaError) as error:
            # Storage that refuses the commit is an OSError, one that refuses the rows' file a DeltaError.
            if isinstance(error, OSError) or "Generic " in str(error):
                raise LakeUnavailable(f"{self.table.uri} can't be written: {in_one_line(error)}") from error
            raise

    def _partitions_of(self, rows: pa.Table) -> set[str]:
        """The folders, directly below the table's own, that the files of `rows` are in."""
        column = self.table.contract.partition_by[0]
        values = rows[column].unique().to_pylist()
        return {f"{column}={'__HIVE_DEFAULT_PARTITION__' if value is None else value}" for value in values}

    def _writable(self) -> DeltaTable:
        """The snapshot's table, created (empty) where it does not exist; of two creators the later one starts again."""
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        if self.table.pin is not None:
            raise LakeUnavailable(
                f"{self.table.name} is served as of a release or publication, for reading alone; open the lake by "
                "Lake.present() to write to it"
            )
        contract = self.table.contract
        if self.contract_version > contract.version:
            raise TableNewer(
                f"{self.table.name} was written by version {self.contract_version} of its contract, and this is "
                f"version {contract.version}: update Lakehouse to write it; until then it can only be read"
            )
        if self.delta is not None:
            return self.delta
        try:
            self.table.location.create()
            created = DeltaTable.create(
                self.table.location.uri,
                schema=stored_schema(contract),
                mode="ignore",
                partition_by=list(contract.partition_by),
                name=self.table.name.replace("/", "."),
                description=contract.description,
                configuration=_CONFIGURATION,
                storage_options=self.table.storage_options,
            )
        except (OSError, TableNotFoundError) as error:
            raise LakeUnavailable(f"{self.table.uri} can't be created: {in_one_line(error)}") from error
        if created.version() > 0:
            raise StaleSnapshot(f"{self.table.name} was created and written by another writer")
        return created

    @staticmethod
    def _next(delta: DeltaTable, name: str) -> int:
        known = delta.transaction_version(name)
        return 0 if known is None else known + 1
