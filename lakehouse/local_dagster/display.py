"""The progress bar of commands that run steps. It imports little, so that it is seen before what takes a second to
import.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Display:
    """One bar from the first step of a run to the last, which pulses before the steps are known and disappears at the
    end.
    """

    def __init__(self, console: Console) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[count]}", markup=False),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task("starting", total=None, count="")
        self._step, self._number, self._steps = "", 0, 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    @property
    def share(self) -> float | None:
        """How much of the bar is filled, from 0 to 1; None while it pulses."""
        task = self._progress.tasks[0]
        return None if task.total is None else task.completed / task.total

    def begin(self, step: str, number: int, steps: int) -> None:
        """Begins a step of a run, by its number from 1 on, of so many as are known."""
        self._step, self._number, self._steps = step, number, steps
        self.show("", 0, 0)

    def end(self) -> None:
        """Ends a run: what follows is no step of it."""
        self._step, self._number, self._steps = "", 0, 0

    def show(self, what: str, done: int, total: int) -> None:
        """Shows `done` of `total`, within the step if there is one; 0 of 0 is a length that isn't known."""
        count = f"{done:,} of {total:,}" if total else ""
        if not self._steps:
            if not total:
                # `update` takes None for a total that stays as it was.
                self._progress.tasks[0].total = None
            self._progress.update(self._task, description=what, completed=done, total=total or None, count=count)
            return
        within = " ".join(filter(None, (what, count)))
        self._progress.update(
            self._task,
            description=": ".join(filter(None, (self._step, within))),
            completed=self._number - 1 + (done / total if total else 0),
            total=self._steps,
            count=f"step {self._number} of {self._steps}",
        )
