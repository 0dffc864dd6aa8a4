"""Reads ahead: while one batch of objects is loaded, the next ones are fetched and unpacked.

Batches are limited by the unpacked size, since that determines memory: from a number of bytes or rows on, a batch ends
with its partition, so that a partition's rows are in one file, and in any case at twice that number. An object larger
than a block is returned as its reader, to be loaded block by block.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from lakehouse.errors import ObjectReplaced, ObjectUnreadable
from lakehouse.ingest.dataset import Dataset
from lakehouse.ingest.discover import ObjectVersion
from lakehouse.ingest.formats import BlockReader, Received, read_whole
from lakehouse.ingest.landing import Landing
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.stage import Read
from lakehouse.ingest.unpacked import CorruptObject, ObjectWithheld
from lakehouse.progress import Progress

_THREADS = 4
_BATCH_BYTES = 48_000_000
_BATCH_ROWS = 300_000
_AHEAD_BYTES = 4_000_000
"""Packed bytes of small objects that are read ahead: about half a batch."""
_AHEAD_OBJECTS = 256


@dataclass
class Batch:
    """Objects that were read and fit in memory together."""

    objects: list[ObjectVersion] = field(default_factory=list)
    read: list[Read] = field(default_factory=list)
    size: int = 0
    rows: int = 0

    def add(self, item: ObjectVersion, read: Read) -> None:
        self.objects.append(item)
        self.read.append(read)
        if isinstance(read, Received):
            self.size += read.size
            self.rows += read.rows

    def ends_before(self, following: ObjectVersion | None) -> bool:
        """Whether it is complete without the object that follows its last one."""
        filled = max(self.size / _BATCH_BYTES, self.rows / _BATCH_ROWS)
        is_same = following is not None and following.first_partition == self.objects[-1].first_partition
        return filled >= (2 if is_same else 1)


@dataclass(frozen=True)
class LargeObject:
    """An object to be read block by block."""

    item: ObjectVersion
    reader: BlockReader


def read_ahead(
    store: ObjectSource | Landing,
    objects: Sequence[ObjectVersion],
    dataset: Dataset,
    progress: Progress,
) -> Iterator[Batch | LargeObject]:
    """Yields the objects in order, without those that were replaced since they were listed.

    Raises:
        SourceUnavailable: the source doesn't answer.
    """
    batch, size = Batch(), 0
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting: deque[tuple[ObjectVersion, Future[Read | BlockReader | None]]] = deque()
        ahead = iter(objects)
        for done in range(1, len(objects) + 1):
            while _may_read(size, len(waiting)) and (item := next(ahead, None)) is not None:
                waiting.append((item, pool.submit(_read, store, item, dataset)))
                size += item.size
            item, future = waiting.popleft()
            size -= item.size
            read = future.result()
            progress("objects read", done, len(objects))
            if isinstance(read, BlockReader):
                if batch.objects:
                    yield batch
                yield LargeObject(item, read)
                batch = Batch()
            elif read is not None:
                batch.add(item, read)
                if batch.ends_before(objects[done] if done < len(objects) else None):
                    yield batch
                    batch = Batch()
    if batch.objects:
        yield batch


def _may_read(size: int, objects: int) -> bool:
    """Whether another object may be read ahead, beside `objects` of that packed size."""
    return objects < _THREADS or (size < _AHEAD_BYTES and objects < _AHEAD_OBJECTS)


def reader_of(store: ObjectSource | Landing, item: ObjectVersion, dataset: Dataset) -> BlockReader:
    """Fetches an object; returns the reader of its rows, whose `file` is to be closed.

    Raises:
        CorruptObject: a reader of the dataset's own can't make sense of it.
        ObjectReplaced, ObjectUnreadable, SourceUnavailable: see `ObjectSource.fetch`.
    """
    file = store.fetch(item.path, item.tag)
    if dataset.reader is not None:
        return dataset.reader(store, item, file, dataset)
    return BlockReader(item.path, file, dataset.rows, dataset.object_max_bytes)


def _read(store: ObjectSource | Landing, item: ObjectVersion, dataset: Dataset) -> Read | BlockReader | None:
    """An object's content, or its reader if it is larger than a block; None if it was replaced since it was listed."""
    try:
        reader = reader_of(store, item, dataset)
        whole = read_whole(reader)
        if whole is None:
            return reader
        reader.file.close()
        return whole
    except CorruptObject as damage:
        return damage
    except ObjectUnreadable as refusal:
        return ObjectWithheld(str(refusal))
    except ObjectReplaced:
        return None
