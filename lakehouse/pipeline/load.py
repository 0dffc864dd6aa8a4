"""Loading: objects of a source become rows of its product's raw table, of the quarantine, and of the ledger.

Three tables are written, one after the other, and no lock is held. A load that is killed between two of them,
or that meets another load of the same objects, is made whole
by one rule: a table takes the rows of an object version only if it has none of them yet, and of two writers
    that decide so on the same snapshot the second has to decide again (`Snapshot.append`). The ledger comes
    last: until an object version stands there, nobody reads its rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from lakehouse.lake.lake import Lake
from lakehouse.lake.ledger import LEDGER, Entry, numbered
from lakehouse.lake.table import retry_when_stale
from lakehouse.pipeline.fetch import fetch
from lakehouse.pipeline.parts import known_parts
from lakehouse.pipeline.pending import PendingObject, discover, store_of
from lakehouse.pipeline.receive import Chunk, Read, Rows, rows_of
from lakehouse.pipeline.skipped import record_skipped
from lakehouse.progress import Progress
from lakehouse.sources.config import SourceConfig
from lakehouse.sources.errors import ObjectReplaced, ObjectUnreadable
from lakehouse.sources.landing import Landing
from lakehouse.sources.objects import ObjectSource
from lakehouse.sources.products import Product
from lakehouse.sources.reading import reading_of
from lakehouse.sources.received import ObjectDamaged, read_object

if TYPE_CHECKING:
    import pyarrow as pa

# Memory follows the objects read at once: 12 MB of gzip are half a million wide rows or a million narrow ones, and
# some 1.5 GB at the peak.
_CHUNK_BYTES = 12_000_000
_THREADS = 4


@dataclass
class Loaded:
    """What a load did: objects by status, rows, the storage partitions that got rows, and the errors by object."""

    objects: dict[str, int] = field(default_factory=lambda: {"loaded": 0, "empty": 0, "failed": 0})
    rows_received: int = 0
    rows_quarantined: int = 0
    parts: set[date] = field(default_factory=set)
    errors: dict[str, str] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Counts one new entry of the ledger."""
        row = entry.row
        self.objects[row["status"]] += 1
        self.rows_received += row["rows_received"]
        self.rows_quarantined += row["rows_quarantined"]
        self.parts |= entry.new_parts
        if row["error"]:
            self.errors[row["object"]] = row["error"]


def load(
    lake: Lake,
    config: SourceConfig,
    product: Product,
    sessions: Sequence[date],
    *,
    run_id: str | None = None,
    progress: Progress = lambda *_: None,
) -> Loaded:
    """Loads every pending object of `sessions`, in chunks that fit into memory. An API is asked first, and its
    answers are landed as objects; one that was not given is recorded as a failed object.

    An object that can't be read is recorded as failed, and the others go on; one that is replaced before its rows are
    committed is left for the next load. Nothing pending writes nothing.

    Raises:
        SourceError: the API's settings are wrong (no key).
        SourceUnavailable: the source doesn't answer; what was committed before stays, the rest is for the next try.
    """
    calendar, result = config.calendar_frame(), Loaded()
    if product.request:
        unanswered = fetch(lake, config, product, sessions, calendar, run_id=run_id, progress=progress)
        for entry in _commit(lake, config, product, None, unanswered):
            result.add(entry)
    found = discover(lake, config, product, calendar, retry_failed=True, sessions=sessions)
    record_skipped(lake, config.source, found.skipped)
    objects = found.pending
    store, done, reading = store_of(lake, config, product), 0, reading_of(config, product)
    for several in _chunks(objects):
        read: list[Read | None] = []
        with ThreadPoolExecutor(_THREADS) as pool:
            for received in pool.map(lambda item: _read(store, item, product), several):
                read.append(received)
                done += 1
                progress("objects read", done, len(objects))
        there = [(item, received) for item, received in zip(several, read, strict=True) if received is not None]
        chunk = Chunk(product, [item for item, _ in there], [received for _, received in there], datetime.now(UTC))
        known = known_parts(lake, config.source, chunk.objects, reading)
        with lake.connect() as connection:
            rows = rows_of(chunk, config, calendar, connection, known, run_id)
        rows = _without(rows, _replaced(store, chunk.objects))
        for entry in _commit(lake, config, product, rows, rows.ledger):
            result.add(entry)
    return result


def _chunks(objects: Sequence[PendingObject]) -> Iterator[list[PendingObject]]:
    chunk: list[PendingObject] = []
    size = 0
    for item in objects:
        if chunk and size + item.size > _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += item.size
    if chunk:
        yield chunk


def _read(store: ObjectSource | Landing, item: PendingObject, product: Product) -> Read | None:
    """What stands in an object; None where it is no longer the one that was listed."""
    try:
        return read_object(item.path, store.fetch(item.path, item.tag), product)
    except ObjectDamaged as damage:
        return damage
    except ObjectUnreadable as refusal:
        return ObjectDamaged(str(refusal))
    except ObjectReplaced:
        return None


def _replaced(store: ObjectSource | Landing, objects: Sequence[PendingObject]) -> set[str]:
    """The objects that are no longer the versions that were read: theirs would be committed after newer ones."""
    with ThreadPoolExecutor(_THREADS) as pool:
        held = pool.map(lambda item: store.holds(item.path, item.tag), objects)
        return {item.name for item, is_held in zip(objects, held, strict=True) if not is_held}


def _without(rows: Rows, names: set[str]) -> Rows:
    """`rows` without those of some objects."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not names:
        return rows

    def kept(table: pa.Table) -> pa.Table:
        return table.filter(pc.invert(pc.is_in(table["object"], pa.array(sorted(names), pa.string()))))

    ledger = [row for row in rows.ledger if row["object"] not in names]
    return replace(rows, raw=kept(rows.raw), refused=kept(rows.refused), ledger=ledger)


def _commit(
    lake: Lake, config: SourceConfig, product: Product, rows: Rows | None, ledger: list[dict[str, Any]]
) -> list[Entry]:
    """Commits a chunk to the three tables and returns the entries that were new in the ledger."""
    if not ledger:
        return []
    names = sorted({f"{config.source}/{product.name}/{entry['first_session']}" for entry in ledger})
    if rows is not None:
        append_absent(lake, config.table(product.raw_table), rows.raw, product.part, names)
        append_absent(lake, "quarantine", rows.refused, "source", names)
    answers = product.request is not None
    return retry_when_stale(lambda: _append_ledger(lake, ledger, names, answers=answers))


def append_absent(lake: Lake, name: str, rows: pa.Table, partition: str, transactions: list[str]) -> None:
    """Appends the rows of those object versions of which the table has none yet; in its `partition` they are."""
    if not rows.num_rows:
        return
    partitions = {partition: [str(value) for value in rows[partition].unique().to_pylist()]}

    def work() -> None:
        snapshot = lake.table(name).snapshot()
        fresh = rows
        if snapshot.files(partitions):
            with lake.connect() as connection:
                connection.register("incoming", rows)
                fresh = connection.execute(
                    f"""
                    SELECT * FROM incoming ANTI JOIN (
                        SELECT DISTINCT object, object_version FROM ({snapshot.select(partitions)})
                    ) USING (object, object_version)
                    """
                ).to_arrow_table()
        if fresh.num_rows:
            snapshot.append(fresh, transactions)

    retry_when_stale(work)


def _append_ledger(lake: Lake, rows: list[dict[str, Any]], transactions: list[str], *, answers: bool) -> list[Entry]:
    """Writes the rows that say something new (see `numbered`), and returns them."""
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
