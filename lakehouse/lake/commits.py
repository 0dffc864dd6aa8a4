"""Commits to Delta tables by delta-rs: what `Snapshot` writes, and what its errors mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lakehouse.errors import LakeUnavailable, StaleSnapshot, in_one_line
from lakehouse.lake.parquet import stored_schema, unsliced, writer_properties
from lakehouse.lake.stored_table import StoredTable

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import CommitProperties, DeltaTable

_RETRIES = 100
"""How often delta-rs repeats a commit when other writers' commits, which don't conflict with it, come first."""

_CONFIGURATION = {
    "delta.logRetentionDuration": "interval 30 days",
    "delta.deletedFileRetentionDuration": "interval 7 days",
}


def create(table: StoredTable) -> DeltaTable:
    """Creates an empty table.

    Raises:
        LakeUnavailable: the storage refuses it.
        StaleSnapshot: another writer creates it at the same time, or created and wrote it meanwhile.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import CommitFailedError, TableNotFoundError

    try:
        table.location.create()
        created = DeltaTable.create(
            table.location.uri,
            schema=stored_schema(table.contract),
            mode="ignore",
            partition_by=list(table.contract.partition_by),
            name=table.name.replace("/", "."),
            description=table.contract.description,
            configuration=_CONFIGURATION,
            storage_options=table.storage_options,
        )
    except (OSError, TableNotFoundError) as error:
        raise LakeUnavailable(f"{table.uri} can't be created: {in_one_line(error)}") from error
    except CommitFailedError as error:
        raise StaleSnapshot(f"{table.name} is created by another writer: {error}") from error
    if created.version() > 0:
        raise StaleSnapshot(f"{table.name} was created and written by another writer")
    return created


def write(
    table: StoredTable,
    delta: DeltaTable,
    rows: pa.Table | pa.RecordBatchReader,
    numbers: Mapping[str, int],
    how: Mapping[str, Any],
    *,
    folders: Iterable[str] | None = None,
) -> int:
    """Writes rows in one commit on top of `delta`; returns the new version.

    Args:
        rows: a reader's are written as they are read; its columns are the contract's.
        folders: of a reader's partitions, directly below the table's own.
        numbers: stored with the commit, by names. Of two commits that store a number under the same name on top of the
            same version, the second fails.
        how: the mode, and further arguments of `write_deltalake`.

    Raises:
        StaleSnapshot: a conflicting commit came first.
        LakeUnavailable: the storage refuses it.
    """
    import pyarrow as pa
    from deltalake import write_deltalake

    schema = table.contract.arrow_schema
    with _explained(table):
        if isinstance(rows, pa.Table):
            folders = _folders_of(table, rows)
            given = unsliced(rows.select(table.contract.column_names).cast(schema))
        else:
            given = rows.cast(schema)
        table.location.create(folders or ())
        write_deltalake(
            delta,
            given,
            writer_properties=writer_properties(table.contract.arrow_schema),
            commit_properties=_storing(numbers),
            **how,
        )
    return delta.version()


def delete(table: StoredTable, delta: DeltaTable, where: str, numbers: Mapping[str, int]) -> int:
    """Deletes the rows that fulfil `where` in one commit; returns the new version. Stores numbers and raises as `write`
    does.
    """
    with _explained(table):
        delta.delete(
            where, writer_properties=writer_properties(table.contract.arrow_schema), commit_properties=_storing(numbers)
        )
    return delta.version()


def restore(table: StoredTable, delta: DeltaTable, version: int, numbers: Mapping[str, int]) -> None:
    """Restores the files of a version in one commit. Stores numbers and raises as `write` does."""
    with _explained(table):
        delta.restore(version, commit_properties=_storing(numbers))


def _storing(numbers: Mapping[str, int], retries: int = _RETRIES) -> CommitProperties:
    from deltalake import CommitProperties, Transaction

    named = [Transaction(name, number) for name, number in numbers.items()]
    return CommitProperties(max_commit_retries=retries, app_transactions=named or None)


def migrate(
    table: StoredTable,
    delta: DeltaTable,
    rows: pa.RecordBatchReader,
    folders: Iterable[str],
    numbers: Mapping[str, int],
) -> None:
    """Replaces all rows, the columns and the partitions by those of the contract in one commit, which any other commit
    since `delta` makes stale. Stores numbers and raises as `write` does.

    Args:
        rows: of the contract's `stored_schema`.
        folders: of the rows' partitions, directly below the table's own.
    """
    from deltalake import write_deltalake

    with _explained(table):
        table.location.create(folders)
        write_deltalake(
            delta,
            rows,
            mode="overwrite",
            schema_mode="overwrite",
            partition_by=list(table.contract.partition_by),
            writer_properties=writer_properties(table.contract.arrow_schema),
            # On a retry delta-rs would put the new columns beside the old partitions.
            commit_properties=_storing(numbers, retries=0),
        )


@contextmanager
def _explained(table: StoredTable) -> Iterator[None]:
    """Turns an error of delta-rs into one that says whether another writer or the storage caused it."""
    from deltalake.exceptions import CommitFailedError, DeltaError

    try:
        yield
    except CommitFailedError as error:
        raise StaleSnapshot(f"{table.name}: {error}") from error
    except (OSError, DeltaError) as error:
        # Storage that refuses the commit is an OSError, one that refuses the rows' file a DeltaError.
        if isinstance(error, OSError) or "Generic " in str(error):
            raise LakeUnavailable(f"{table.uri} can't be written: {in_one_line(error)}") from error
        raise


def _folders_of(table: StoredTable, rows: pa.Table) -> set[str]:
    """The folders, directly below the table's own, of the files of `rows`."""
    column = table.contract.partition_by[0]
    values = rows[column].unique().to_pylist()
    return {f"{column}={'__HIVE_DEFAULT_PARTITION__' if value is None else value}" for value in values}
