"""Loads objects of a source into the raw table, the quarantine and the ledger.

The three tables are written one after the other without a lock. One rule covers a load that is killed in between and
concurrent loads of the same objects: a table accepts only those rows of an object version that it does not have yet,
and of two writers that decide this on the same snapshot, the second must decide again (`Snapshot.append`). The ledger
is written last: readers ignore an object version's rows until its ledger row exists, so they may be written in several
commits to limit memory.

A batch is committed while the next one is read and typed. Commits keep the order of the objects.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from lakehouse.ingest.dataset import ApiOrigin, Dataset, ObjectOrigin
from lakehouse.ingest.discover import ObjectVersion, discover, store_of
from lakehouse.ingest.entered import QUARANTINE, clear_abandoned
from lakehouse.ingest.fetch import fetch
from lakehouse.ingest.landing import Landing
from lakehouse.ingest.ledger import LEDGER, Entry, numbered
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.reading_ahead import Batch, LargeObject, read_ahead
from lakehouse.ingest.skipped import record_skipped
from lakehouse.ingest.slices import PartOf, Stored, known_parts
from lakehouse.ingest.stage import BlockwiseObject, Chunk, Rows, rows_of
from lakehouse.ingest.unpacked import CorruptObject
from lakehouse.lake.compute import Compute
from lakehouse.lake.lake import Lake
from lakehouse.lake.maintenance import compact_if_many
from lakehouse.lake.table import retry_when_stale
from lakehouse.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

_THREADS = 4
_LEAST_BYTES, _BATCHES_A_SLOT, _MOST_BATCHES = 2_000_000, 4, 512
"""Packed bytes of a task on a cluster, which is about a commit; tasks a slot, so that one that lags behind is a small
part; and the most tasks of a load, since their commits of the ledger come one after the other (docs/scale.md).
"""
_log = logging.getLogger(__name__)


@dataclass
class LoadResult:
    """The result of a load: objects by status, rows, the storage partitions that got rows, and errors by object."""

    objects: dict[str, int] = field(default_factory=lambda: {"loaded": 0, "empty": 0, "failed": 0})
    rows_received: int = 0
    rows_quarantined: int = 0
    parts: set[date] = field(default_factory=set)
    errors: dict[str, str] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Counts a new entry of the ledger."""
        row = entry.row
        self.objects[row["status"]] += 1
        self.rows_received += row["rows_received"]
        self.rows_quarantined += row["rows_quarantined"]
        self.parts |= entry.new_parts
        if row["error"]:
            self.errors[row["object"]] = row["error"]

    def include(self, other: LoadResult) -> None:
        """Counts what another load of the dataset did."""
        for status, count in other.objects.items():
            self.objects[status] += count
        self.rows_received += other.rows_received
        self.rows_quarantined += other.rows_quarantined
        self.parts |= other.parts
        self.errors |= other.errors


def load(
    lake: Lake,
    dataset: Dataset,
    partitions: Sequence[date],
    *,
    run_id: str | None = None,
    reread: bool = False,
    only_new: bool = False,
    progress: Progress = lambda *_: None,
) -> LoadResult:
    """Loads every pending object of `partitions`, in chunks that fit into memory. An API is requested first, and its
    answers are landed as objects; a missing answer is recorded as a failed object. What a cursor reads is landed first
    too.

    An object that can't be read is recorded as failed without stopping the others; one that is replaced before its rows
    are committed is left for the next load. If nothing is pending, nothing is written.

    Args:
        reread: also reload objects that were read with other settings; landed answers are reused without a request.
        only_new: ask an API only what it hasn't answered yet.

    Raises:
        SourceError: the API's settings are wrong (no key).
        SourceUnavailable: the source doesn't answer; earlier commits stay, and the next load does the rest.
    """
    result = LoadResult()
    if dataset.personal and dataset.pseudonyms is None:
        _warn_of_clear_values(dataset.source, ", ".join(dataset.personal))
    if isinstance(dataset.origin, ApiOrigin) and not reread:
        unanswered = fetch(
            lake, dataset, dataset.origin, partitions, run_id=run_id, progress=progress, only_new=only_new
        )
        names = _names(dataset, [entry["first_session"] for entry in unanswered])
        for entry in _commit(lake, dataset, None, unanswered, names):
            result.add(entry)
    if isinstance(dataset.origin, ObjectOrigin) and dataset.origin.land is not None and not reread:
        dataset.origin.land()
    found = discover(lake, dataset, retry_failed=True, partitions=partitions, reread=reread)
    if found.is_of_all:
        record_skipped(lake, dataset.source, found.skipped)
    task = partial(_load_objects, dataset, run_id)
    batches = _apart(found.pending, lake.compute)
    for loaded in lake.compute.map(lake, task, batches, "objects read", progress):
        result.include(loaded)
    compact_if_many(lake.table(LEDGER), "source", dataset.source)
    return result


def _apart(objects: Sequence[ObjectVersion], compute: Compute) -> list[Sequence[ObjectVersion]]:
    """The objects in stretches of whole partitions, for several tasks at once. They are not small: each writes commits
    of its own.
    """
    if not objects:
        return []
    if (slots := compute.slots) == 1:
        return [objects]
    batches: list[list[ObjectVersion]] = []
    wanted = min(slots * _BATCHES_A_SLOT, _MOST_BATCHES)
    size, enough = 0, max(_LEAST_BYTES, -(-sum(item.size for item in objects) // wanted))
    for item in objects:
        is_next = not batches or item.first_partition > batches[-1][-1].last_partition
        if not batches or (is_next and size >= enough):
            batches.append([])
            size = 0
        batches[-1].append(item)
        size += item.size
    return list(batches)


def _load_objects(
    dataset: Dataset, run_id: str | None, lake: Lake, objects: Sequence[ObjectVersion], progress: Progress
) -> LoadResult:
    result, store = LoadResult(), store_of(lake, dataset)
    loader = _Loader(lake, dataset, store, run_id)
    with ThreadPoolExecutor(1) as pool:
        behind = _Committing(pool, result)
        for read in read_ahead(store, objects, dataset, progress):
            if isinstance(read, Batch):
                names = frozenset(item.name for item in read.objects)
                behind.wait_for(names)
                rows = loader.stage(read)
                behind.start(names, partial(loader.commit, read, rows))
            else:
                behind.finish()
                for entry in loader.load_large(read):
                    result.add(entry)
        behind.finish()
    return result


@cache
def _warn_of_clear_values(source: str, columns: str) -> None:
    """Logs, once a process, that personal data are stored as they come."""
    _log.warning(
        "%s: %s is personal and is stored in the clear; to store pseudonyms, run `lakehouse pseudonyms create-key`",
        source,
        columns,
    )


@dataclass
class _Committing:
    """Commits a batch while the next one is read and typed; adds its entries to the load's result."""

    pool: ThreadPoolExecutor
    result: LoadResult
    _objects: frozenset[str] = frozenset()
    _commit: Future[list[Entry]] | None = None

    def start(self, objects: frozenset[str], commit: Callable[[], list[Entry]]) -> None:
        """Starts a commit of these objects (by name), once the one before is done."""
        self.finish()
        self._objects, self._commit = objects, self.pool.submit(commit)

    def wait_for(self, objects: frozenset[str]) -> None:
        """Finishes a commit of earlier versions of the objects, since the ledger then says which parts are stored."""
        if not self._objects.isdisjoint(objects):
            self.finish()

    def finish(self) -> None:
        if self._commit is not None:
            commit, self._commit = self._commit, None
            for entry in commit.result():
                self.result.add(entry)


@dataclass(frozen=True)
class _Loader:
    """Stores the rows of a dataset's objects."""

    lake: Lake
    dataset: Dataset
    store: ObjectSource | Landing
    run_id: str | None

    def stage(self, batch: Batch) -> Rows:
        """The rows of objects that fit in memory together."""
        chunk = Chunk.of(self.dataset, batch.objects, batch.read, datetime.now(UTC))
        known = self._known(chunk.objects)
        with self.lake.connect() as connection:
            return rows_of(chunk, connection, known, self.run_id)

    def commit(self, batch: Batch, rows: Rows) -> list[Entry]:
        """Stores a batch's rows; returns the new entries of the ledger."""
        rows = _without(rows, _replaced(self.store, batch.objects))
        names = _names(self.dataset, [item.first_partition for item in batch.objects])
        return _commit(self.lake, self.dataset, rows, rows.ledger, names)

    def load_large(self, large: LargeObject) -> list[Entry]:
        """Stores an object block by block, each in its own commit. A first pass makes sure that it can be read to its
        end, and determines what is new in it.
        """
        item = large.item
        names = _names(self.dataset, [item.first_partition])
        content = BlockwiseObject(self.dataset, item, large.reader, datetime.now(UTC), self.lake.connect)
        with large.reader.file:
            try:
                parts = content.parts(self._known([item]))
            except CorruptObject as damage:
                return self._answer(content.ledger_row([], 0, self.run_id, damage), names)
            quarantined = 0
            for rows in content.rows(parts):
                if _replaced(self.store, [item]):
                    return []
                _append(self.lake, self.dataset, rows, names)
                quarantined += rows.refused.num_rows
        return self._answer(content.ledger_row(parts, quarantined, self.run_id), names)

    def _answer(self, row: dict[str, Any], names: list[str]) -> list[Entry]:
        return _commit(self.lake, self.dataset, None, [row], names)

    def _known(self, objects: Sequence[ObjectVersion]) -> dict[PartOf, Stored]:
        return known_parts(self.lake, self.dataset.source, objects, self.dataset.reading)


def _replaced(store: ObjectSource | Landing, objects: Sequence[ObjectVersion]) -> set[str]:
    """The objects that were replaced since they were read: committing them could overtake a newer version."""
    with ThreadPoolExecutor(_THREADS) as pool:
        held = pool.map(lambda item: store.holds(item.path, item.tag), objects)
        return {item.name for item, is_held in zip(objects, held, strict=True) if not is_held}


def _without(rows: Rows, names: set[str]) -> Rows:
    """`rows` without those of the named objects."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not names:
        return rows

    def kept(table: pa.Table) -> pa.Table:
        return table.filter(pc.invert(pc.is_in(table["object"], pa.array(sorted(names), pa.string()))))

    ledger = [row for row in rows.ledger if row["object"] not in names]
    return replace(rows, raw=kept(rows.raw), refused=kept(rows.refused), ledger=ledger)


def _commit(
    lake: Lake, dataset: Dataset, rows: Rows | None, ledger: list[dict[str, Any]], names: list[str]
) -> list[Entry]:
    """Commits a chunk to the three tables under transaction `names`; returns the new entries of the ledger."""
    if not ledger:
        return []
    if rows is not None:
        _append(lake, dataset, rows, names)
    return retry_when_stale(lambda: _append_ledger(lake, ledger, names, dataset.is_asked))


def _names(dataset: Dataset, partitions: Sequence[date]) -> list[str]:
    """Transaction names, by the partitions of objects' names, under which one of two concurrent commits fails."""
    return sorted({f"{dataset.source}/{dataset.name}/{partition}" for partition in partitions})


def _append(lake: Lake, dataset: Dataset, rows: Rows, names: list[str]) -> None:
    column = dataset.part.column
    for name, stored, partition in ((dataset.table, rows.raw, column), (QUARANTINE, rows.refused, "source")):
        clear_abandoned(lake, dataset.source, name, stored, partition)
        append_new_objects(lake, name, stored, partition, names)


def append_new_objects(lake: Lake, name: str, rows: pa.Table, partition: str, transactions: list[str]) -> None:
    """Appends the rows of object versions that the table does not have yet, all in its `partition`."""
    import pyarrow.compute as pc

    if not rows.num_rows:
        return
    partitions = {partition: [str(value) for value in rows[partition].unique().to_pylist()]}
    span = pc.min_max(rows["row_number"]).as_py()

    def work() -> None:
        snapshot = lake.table(name).snapshot()
        fresh = rows
        if snapshot.files(partitions):
            with lake.connect() as connection:
                connection.register("incoming", rows)
                stored = snapshot.select(partitions)
                connection.execute(
                    f"""
                    CREATE TEMP TABLE known AS SELECT DISTINCT object, object_version FROM ({stored})
                    SEMI JOIN (SELECT DISTINCT object, object_version FROM incoming) USING (object, object_version)
                    WHERE row_number BETWEEN {span["min"]} AND {span["max"]}
                    """
                )
                # Read only rows that may match, since the table has millions of others.
                if connection.execute("SELECT 1 FROM known LIMIT 1").fetchone():
                    fresh = connection.sql(
                        f"""
                        SELECT * FROM incoming ANTI JOIN (
                            SELECT object, object_version, row_number FROM ({stored})
                            WHERE row_number BETWEEN {span["min"]} AND {span["max"]}
                            AND object IN (SELECT object FROM known)
                        ) USING (object, object_version, row_number)
                        """
                    ).to_arrow_table()
        if fresh.num_rows:
            snapshot.append(fresh, transactions)

    retry_when_stale(work)


def _append_ledger(lake: Lake, rows: list[dict[str, Any]], transactions: list[str], answers: bool) -> list[Entry]:
    """Writes the rows that add something new (see `numbered`), and returns them."""
    import polars as pl
    import pyarrow as pa

    table = lake.table(LEDGER)
    snapshot = table.snapshot()
    ours = (pl.col("source") == rows[0]["source"]) & pl.col("object").is_in([row["object"] for row in rows])
    stored = snapshot.scan().filter(ours).collect().iter_rows(named=True)
    entries = numbered(rows, stored, answers=answers)
    if entries:
        fresh = [entry.row for entry in entries]
        snapshot.append(pa.Table.from_pylist(fresh, schema=table.contract.arrow_schema), transactions)
    return entries
