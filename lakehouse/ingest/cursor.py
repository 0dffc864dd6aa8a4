"""Rows that a system gives by a cursor, such as `id > last` of a table or `?since=` of an API: each batch is landed as
an object, and from there on it is loaded as any other.

A batch is a file in JSON Lines, written once, in one step, and never again. It is named by its number and by the cursor
after which it begins, and each of its lines has the cursor with which it ends, as the member `_cursor`. So the next
cursor is read from what was landed, and kept nowhere else: a run that is killed after a batch was landed goes on after
it, and the batch is loaded by the next load. Of two runs at once, one lands the next batch; the other finds the name
taken, drops what it read, and goes on after that.

What is promised of rows that appear late: one that gets a cursor at or before the last landed one, such as a row with a
smaller id whose transaction was committed later, is not seen, unless the source begins its batches earlier than it was
asked to (an overlap). Rows that come again that way are landed again, with the next batch that has newer ones, and
count as duplicates where the derived table takes one row per key. A row that appears later than the overlap reaches
back is missed for good, and so is a change of a row that doesn't get a new cursor.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from lakehouse.errors import SourceError, SourceUnavailable
from lakehouse.ingest import json_lines
from lakehouse.ingest.object_store import objects_at, store_at

CURSOR = "_cursor"
"""Member of a landed record: the cursor with which its batch ends."""
_BATCH = re.compile(r"(?:.*/)?(\d{10})-[^/]*\.jsonl\.gz")
_NAMED_OF_CURSOR = 100
"""Characters of a cursor in a name: an opaque one may be longer than a file's name can be."""


@dataclass(frozen=True)
class CursorBatch:
    """Records as JSON has them, and the cursor after which the next batch begins."""

    records: Sequence[dict[str, Any]]
    next_cursor: str


class CursorSource(Protocol):
    """A system that is read by a cursor."""

    def batch(self, after: str | None, limit: int) -> CursorBatch | None:
        """The next records after a cursor (None: from the beginning), in their order and about `limit` at most; None,
        or no record, where there is nothing after it.

        Raises:
            SourceUnavailable: the system doesn't answer.
        """


@dataclass(frozen=True)
class BatchLanding:
    """The landed batches of a dataset, in a folder of their own.

    Args:
        url: folder or bucket that they are in.
        connect: opens the system that they come from.
        limit: records in a batch.
    """

    url: str
    connect: Callable[[], CursorSource]
    limit: int = 10_000

    def land(self) -> int:
        """Lands all batches that the system has after the last landed one. Returns how many.

        Raises:
            SourceError: a record has the member `_cursor`, or the system's cursors go round in a circle.
            SourceUnavailable: the system doesn't answer, or the landing can't be read or written. What was landed
                before stays.
        """
        source, landed = self.connect(), 0
        number, after = self._last()
        seen = {after}
        while batch := source.batch(after, self.limit):
            if not batch.records or batch.next_cursor == after:
                break
            if batch.next_cursor in seen:
                raise SourceError(
                    f"{self.url}: after the cursor {after!r} comes {batch.next_cursor!r} once more; the system must "
                    "give its records in one order"
                )
            if self._put(number + 1, after, batch):
                landed, number, after = landed + 1, number + 1, batch.next_cursor
            else:
                number, after = self._last()
            seen.add(after)
        return landed

    def _last(self) -> tuple[int, str | None]:
        """The number of the last landed batch, and the cursor with which it ends."""
        kept = objects_at(self.url, may_lack=True)
        names = kept.list().objects["name"].to_list()
        batches = {int(match[1]): name for name in names if (match := _BATCH.fullmatch(name))}
        if not batches:
            return 0, None
        number = max(batches)
        with kept.fetch(batches[number], None) as file, gzip.open(file) as lines:
            return number, str(json_lines.parse(lines.readline())[CURSOR])

    def _put(self, number: int, after: str | None, batch: CursorBatch) -> bool:
        """Lands a batch; False where another run has landed the one of this number."""
        import obstore

        if any(CURSOR in record for record in batch.records):
            raise SourceError(f"{self.url}: a record has the member {CURSOR}, which says where a batch ends; rename it")
        text = json_lines.lines({**record, CURSOR: batch.next_cursor} for record in batch.records)
        name = f"{number:010d}-{quote(after or '', safe='')[:_NAMED_OF_CURSOR]}.jsonl.gz"
        content = gzip.compress(text, compresslevel=6, mtime=0)
        try:
            obstore.put(store_at(self.url), name, content, mode="create")
        except obstore.exceptions.AlreadyExistsError:
            return False
        except (OSError, obstore.exceptions.BaseError) as error:
            raise SourceUnavailable(f"{self.url}: {name} can't be written: {error}") from error
        return True
