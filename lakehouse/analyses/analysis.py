"""An analysis for Python code: made of rows in any form, validated, run in this process, and shown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.analyses.graph import Graph, graph_of
from lakehouse.analyses.reading import definition_in
from lakehouse.analyses.registry import Registry, Task
from lakehouse.analyses.runner import Stepper
from lakehouse.analyses.signatures import unused_defaults
from lakehouse.analyses.spec import Definition, Fault, definition_of, definition_of_frame
from lakehouse.analyses.tables import Tables
from lakehouse.analyses.validation import validate

if TYPE_CHECKING:
    import polars as pl

    from lakehouse.lake.lake import Lake


@dataclass(frozen=True)
class Analysis:
    """A definition with the functions that its rows may name."""

    definition: Definition
    registry: Registry

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Any],
        *,
        name: str = "analysis",
        inputs: Mapping[str, Any] | None = None,
        tasks: Iterable[Task] = (),
    ) -> Analysis:
        """The analysis of rows: mappings with the columns, or sequences in their order.

        Args:
            inputs: values of input keys, which a run may replace.
            tasks: registered besides the installed ones.

        Raises:
            InvalidAnalysis: some aren't rows; with all faults.
        """
        return cls(definition_of(name, rows, inputs), Registry.installed().extended(tasks))

    create = from_rows

    @classmethod
    def from_frame(
        cls,
        frame: pl.DataFrame,
        *,
        name: str = "analysis",
        inputs: Mapping[str, Any] | None = None,
        tasks: Iterable[Task] = (),
    ) -> Analysis:
        """The analysis of a frame with the five columns."""
        return cls(definition_of_frame(name, frame, inputs), Registry.installed().extended(tasks))

    @classmethod
    def from_text(cls, text: str, *, name: str = "analysis", tasks: Iterable[Task] = ()) -> Analysis:
        """The analysis of a JSON or YAML text.

        Raises:
            AnalysisError: it can't be read; an `InvalidAnalysis` names all faults.
        """
        return cls(definition_in(name, text), Registry.installed().extended(tasks))

    from_json = from_yaml = from_text

    @property
    def version(self) -> str:
        """The sha256 of the rows' canonical JSON."""
        return self.definition.version

    def validate(self, given: Collection[str] | None = None) -> list[Fault]:
        """All faults, if it is run with the given keys (default: those of its inputs)."""
        return validate(self.definition, self.registry, given)

    def is_runnable(self, data: Mapping[str, Any] | None = None) -> bool:
        """Whether it has no faults when it is run on the data."""
        return not self.validate({*self.definition.inputs, *(data or {})})

    def steps(self, data: Mapping[str, Any] | None = None, lake: Lake | None = None) -> Stepper:
        """Starts to run it step by step, in this process and without limits."""
        return Stepper(self.definition, self.registry, data, Tables(lake) if lake is not None else None)

    def run(self, data: Mapping[str, Any] | None = None, lake: Lake | None = None) -> dict[str, Any]:
        """Runs it in this process and without limits; returns the given and the made keys.

        Raises:
            InvalidAnalysis: it has faults; nothing was run.
            TaskFailed: a task raised an error.
        """
        return self.steps(data, lake).run()

    def default_kwargs(self) -> list[dict[str, Any]]:
        """Per row, the defaults of its function that it leaves as they are."""
        return [
            unused_defaults(self.registry.get(row.func_path).signature, len(row.input_keys), row.kwargs)
            for row in self.definition.rows
        ]

    def as_dag(self) -> Graph:
        """The graph of its tasks."""
        return graph_of(self.definition)

    def as_rows(self) -> list[dict[str, Any]]:
        """The rows as mappings."""
        return self.definition.as_rows()

    def as_frame(self) -> pl.DataFrame:
        """The rows as a frame."""
        return self.definition.as_frame()

    def as_json(self) -> str:
        """The rows as canonical JSON."""
        return self.definition.as_json()

    def as_yaml(self) -> str:
        """The rows as YAML."""
        return self.definition.as_yaml()
