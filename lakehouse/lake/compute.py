"""The seam at which batches of work leave the code that divides it: they run here, in this process, or where another
`Compute` runs them (`lakehouse.compute` on a Ray cluster).

A task gets a lake of the place where it runs, so that it holds no handle of the process that asked for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from lakehouse.progress import Progress

if TYPE_CHECKING:
    from lakehouse.lake.lake import Lake

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


class InProcess:
    """Runs tasks in this process, one after the other."""

    slots = 1

    def map(
        self, lake: Lake, task: Task[BatchT, ResultT], batches: Sequence[BatchT], what: str, progress: Progress
    ) -> list[ResultT]:
        """See `Compute`."""
        results, done, total = [], 0, sum(map(len, batches))
        for batch in batches:
            results.append(task(lake, batch, _after(done, total, progress)))
            done += len(batch)
            progress(what, done, total)
        return results


def _after(done: int, total: int, progress: Progress) -> Progress:
    """The progress of one of several batches, as part of the whole."""
    return lambda what, of_batch, _: progress(what, done + of_batch, total)
