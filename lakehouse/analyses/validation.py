"""Finds all faults of a definition before anything runs, each with row, column and what to do."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from lakehouse.analyses.registry import Registry
from lakehouse.analyses.signatures import faults_of, result_count
from lakehouse.analyses.spec import STORE, Definition, Fault, InvalidAnalysis, Row
from lakehouse.errors import did_you_mean


def validate(definition: Definition, registry: Registry, given: Collection[str] | None = None) -> list[Fault]:
    """The faults of a definition that is run with the given keys (default: those of its inputs), by row."""
    known = set(definition.inputs if given is None else given)
    found = [*_of_functions(definition, registry), *_of_keys(definition, known)]
    return sorted(found, key=lambda fault: fault.row or 0)


def require_valid(definition: Definition, registry: Registry, given: Collection[str] | None = None) -> None:
    """Raises:
    InvalidAnalysis: the definition has faults; with all of them.
    """
    if faults := validate(definition, registry, given):
        raise InvalidAnalysis.of(definition.name, faults)


def _of_functions(definition: Definition, registry: Registry) -> Iterator[Fault]:
    """Unknown functions, arguments that don't fit, and keywords with values that their task refuses."""
    for number, row in enumerate(definition.rows, start=1):
        task = registry.find(row.func_path)
        if task is None:
            message = f"no function is registered as {row.func_path!r}{registry.hint(row.func_path)}"
            yield Fault(number, "funcPath", message)
            continue
        for column, message in faults_of(task.signature, row.func_path, len(row.input_keys), row.kwargs):
            yield Fault(number, column, message)
        count, keys = result_count(task.signature), len(row.output_keys)
        if count is not None and keys not in (0, 1, count):
            message = f"{row.func_path}: expected={count}, received={keys}; name a key for each result, or one for all"
            yield Fault(number, "outputKeys", message)
        for name, check in task.checks.items():
            if name in row.kwargs and (problem := check(row.kwargs[name])) is not None:
                yield Fault(number, "kwargs", f"{row.func_path}: {name}={row.kwargs[name]!r}: {problem}")


def _of_keys(definition: Definition, given: set[str]) -> Iterator[Fault]:
    """Keys that are missing, used before they are made, or made twice."""
    makers: dict[str, tuple[int, Row]] = {}
    for place, row in definition.in_order:
        for key in row.output_keys:
            if key in makers:
                message = f"key {key!r} is made by row {makers[key][0] + 1}, too; rename one of the two"
                yield Fault(place + 1, "outputKeys", message)
            elif key in given:
                yield Fault(place + 1, "outputKeys", f"key {key!r} is an input, too; rename one of the two")
            makers.setdefault(key, (place, row))
    for place, row in definition.in_order:
        for key in row.input_keys:
            if key == STORE or key in given:
                continue
            if key not in makers:
                hint = (
                    did_you_mean(key, [*given, *makers])
                    or "; give it as an input (inputs, or --set), or add a task that makes it"
                )
                yield Fault(place + 1, "inputKeys", f"nothing gives key {key!r}{hint}")
            elif makers[key][1].order >= row.order:
                made = f"row {makers[key][0] + 1} in order {makers[key][1].order}"
                message = f"key {key!r} is used in order {row.order} before it is made by {made}; give this row a"
                yield Fault(place + 1, "inputKeys", f"{message} higher order than {makers[key][1].order}")
