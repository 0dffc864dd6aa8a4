"""The seam at which batches of work leave the code that divides it: they run here, in this process, or where another
`Compute` runs them (`lakehouse.compute` on a Ray cluster).

A task gets a lake of the place where it runs, so that it holds no handle of the process that asked for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from math import ceil
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from lakehouse.progress import Progress

if TYPE_CHECKING:
    from lakehouse.lake.lake import Lake
    from lakehouse.lake.snapshot import Snapshot

BatchT = TypeVar("BatchT", bound=Sequence[Any])
ResultT = TypeVar("ResultT")
Task = Callable[["Lake", BatchT, Progress], ResultT]
"""Works on a batch. It may run twice, after its process died, or beside another one: what it stores is stored once."""


class Compute(Protocol):
    """Runs tasks."""

    @property
    def slots(self) -> int:
        """How many tasks run at once."""

    def map(
        self, lake: Lake, task: Task[BatchT, ResultT], batches: Sequence[BatchT], what: str, progress: Progress
    ) -> list[ResultT]:
        """The results of a task on each batch, in their order. If one fails, the others are cancelled.

        Args:
            what: the batches are made of, for `progress`.
        """


ItemT = TypeVar("ItemT")


def divided(items: Sequence[ItemT], compute: Compute, *, least: int, most: int | None = None) -> list[Sequence[ItemT]]:
    """The items in batches of equal size, one for each task that runs at once, or more where `most` is reached. In one
    process this is a single batch.

    Args:
        least: items that a batch has at least, so that its work outweighs what a task costs.
        most: items that a batch has at most, so that they fit in memory.
    """
    if not items:
        return []
    size = max(least, ceil(len(items) / compute.slots))
    size = size if most is None else min(size, most)
    return [items[start : start + size] for start in range(0, len(items), size)]


def fitting(tables: Iterable[Snapshot], partitions: Sequence[date], rows: int) -> int:
    """How many of the partitions have about that many rows together in the largest of the tables, but one at least."""
    if len(partitions) < 2:
        return 1  # a correction of one partition counts no rows of the others
    largest = 1
    for table in tables:
        contract = table.table.contract
        part = contract.partition_by[0]
        found = table.rows_by(part)
        # Of a table that is stored by months, days tell nothing.
        inside = [found.get(str(day), 0) for day in partitions] if part == contract.date_column else found.values()
        largest = max(largest, sum(inside))
    return max(1, len(partitions) * rows // largest)


class InProcess:
    """Runs tasks in this process, one after the other."""

    slots = 1

    def map(
        self, lake: Lake, task: Task[BatchT, ResultT], batches: Sequence[BatchT], what: str, progress: Progress
    ) -> list[ResultT]:
        """See `Compute`."""
        results, done, total = [], 0, sum(map(len, batches))
        for batch in batches:
            results.append(task(lake, batch, after(done, total, progress)))
            done += len(batch)
            progress(what, done, total)
        return results


def after(done: int, total: int, progress: Progress) -> Progress:
    """The progress of one of several batches, as part of the whole."""
    return lambda what, of_batch, _: progress(what, done + of_batch, total)
