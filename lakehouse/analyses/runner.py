"""Runs a definition's tasks in this process, at once or step by step.

A step is all rows of an order. Limits of time and memory are set by `child`; what is stored of a run is decided by
`store`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lakehouse.analyses.registry import READER, Registry
from lakehouse.analyses.spec import STORE, AnalysisError, Definition, Fault, InvalidAnalysis, Row
from lakehouse.analyses.validation import require_valid, validate


class TaskFailed(AnalysisError):
    """A task raised an error; `results` are those of the tasks before it."""

    def __init__(self, message: str, hint: str | None = None, *, results: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, hint)
        self.results = dict(results or {})


@dataclass
class Progress:
    """What has become of the rows, by their places: their state, and how long they took."""

    states: dict[int, str] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)


class Stepper:
    """A definition in the course of running. The definition itself never changes.

    Args:
        data: values of the input keys; those of the definition's inputs are the defaults.
        tables: what tasks that read the lake get.
    """

    def __init__(
        self,
        definition: Definition,
        registry: Registry,
        data: Mapping[str, Any] | None = None,
        tables: Any = None,
    ) -> None:
        self.definition = definition
        self.registry = registry
        self.given = {**definition.inputs, **(data or {})}
        self._tables = tables
        self._orders = [order for order, _ in definition.steps()]
        self.reset()

    def reset(self) -> None:
        """Goes back to the start: only the inputs are there."""
        if STORE in self.given:
            raise InvalidAnalysis.of(self.definition.name, [Fault(None, "inputs", f"{STORE} is reserved; rename it")])
        self.data: dict[str, Any] = dict(self.given)
        self.progress = Progress()
        self._next = 0

    def is_runnable(self) -> bool:
        """Whether the definition has no faults with the given keys."""
        return not validate(self.definition, self.registry, self.given)

    def peek(self) -> list[Row]:
        """The rows that run next; none at the end."""
        return self._rows_of(self._orders[self._next]) if self._next < len(self._orders) else []

    def previous(self) -> list[Row]:
        """The rows that ran last; none at the start."""
        return self._rows_of(self._orders[self._next - 1]) if self._next else []

    def run_next(self) -> dict[str, Any]:
        """Runs the rows of the next order; returns what they made.

        Raises:
            AnalysisError: there are none left.
            TaskFailed: a task raised an error. Earlier results stay, and the step can be run again.
        """
        if self._next == len(self._orders):
            raise AnalysisError(f"{self.definition.name} has run all {len(self._orders)} steps; reset it to run again")
        if not self._next:
            require_valid(self.definition, self.registry, self.given)
        made = self._run_order(self._orders[self._next])
        self._next += 1
        return made

    def run_selected(self, order: int) -> dict[str, Any]:
        """Runs the rows of an order on the present data; returns what they made.

        Raises:
            InvalidAnalysis: no row has that order, or they don't fit the present keys.
            TaskFailed: a task raised an error.
        """
        found = dict(self.definition.steps()).get(order)
        if found is None:
            known = ", ".join(map(str, self._orders))
            raise InvalidAnalysis.of(
                self.definition.name, [Fault(None, "order", f"no row has {order}; there is {known}")]
            )
        part = Definition(self.definition.name, tuple(row for _, row in found))
        require_valid(part, self.registry, set(self.data) - set(part.output_keys))
        return self._run_order(order)

    def run(self, until: int | None = None) -> dict[str, Any]:
        """Runs all that is left, or what is left until an order; returns all data.

        Raises:
            InvalidAnalysis: the definition has faults; nothing was run.
            TaskFailed: a task raised an error.
        """
        require_valid(self.definition, self.registry, self.given)
        while self._next < len(self._orders) and (until is None or self._orders[self._next] <= until):
            self._run_order(self._orders[self._next])
            self._next += 1
        return self.data

    def _rows_of(self, order: int) -> list[Row]:
        return [row for _, row in dict(self.definition.steps())[order]]

    def _run_order(self, order: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for place, row in dict(self.definition.steps())[order]:
            made |= self._run(place, row)
        return made

    def _run(self, place: int, row: Row) -> dict[str, Any]:
        task = self.registry.get(row.func_path)
        kwargs = dict(row.kwargs) | ({READER: self._tables} if task.reads_lake else {})
        started = time.monotonic()
        with _Failing(self, place, row):
            # A key may be missing now, since a task has deleted it.
            arguments = [self.data if key == STORE else self.data[key] for key in row.input_keys]
            made = _named(row.output_keys, task.function(*arguments, **kwargs))
        self.data |= made
        self.progress.states[place] = "done"
        self.progress.seconds[place] = time.monotonic() - started
        return made


class _Failing:
    """Turns whatever a task raises into `TaskFailed`."""

    def __init__(self, stepper: Stepper, place: int, row: Row) -> None:
        self._stepper, self._place, self._row = stepper, place, row

    def __enter__(self) -> None:
        self._stepper.progress.states[self._place] = "failed"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            name = self._stepper.definition.name
            message = f"{name}, row {self._place + 1}: {self._row.func_path} failed: {what}"
            raise TaskFailed(message, results=self._stepper.data) from error


def _named(keys: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A task's results by its output keys: one key takes the value as it is, n keys need n values.

    Raises:
        ValueError: their number differs.
    """
    if len(keys) == 1:
        return {keys[0]: value}
    if not keys:
        return {}
    if not isinstance(value, tuple | list):
        raise ValueError(f"it has {len(keys)} output keys ({', '.join(keys)}) and returned one value")
    if len(value) != len(keys):
        raise ValueError(f"it has {len(keys)} output keys ({', '.join(keys)}) and returned {len(value)} values")
    return dict(zip(keys, value, strict=True))
