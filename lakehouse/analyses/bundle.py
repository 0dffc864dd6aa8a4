"""Hands an analysis over to another installation, with the means to prove that it gives the same results there.

A bundle is a JSON file with the rows, the inputs, the functions with the hashes of their sources, what was read of the
lake, and the fingerprints of the sender's results. It has no data: the recipient's lake has its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse.analyses.canonical import canonical_json
from lakehouse.analyses.code import source_hash
from lakehouse.analyses.reading import parse_json
from lakehouse.analyses.registry import Registry
from lakehouse.analyses.spec import AnalysisError, Definition, definition_of
from lakehouse.analyses.store import Run
from lakehouse.analyses.tables import BLOCK_ROWS

FORMAT = 1
_MARK = "lakehouse_analysis"


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read: the definition, and what the sender says of its run."""

    definition: Definition
    version: str
    inputs: Mapping[str, Any]
    steps: list[Mapping[str, Any]]
    readings: list[Mapping[str, Any]]
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class Verification:
    """How a recipient's run compares with the sender's: what differs, in words, and the keys that are equal or not."""

    differences: tuple[str, ...]
    equal: tuple[str, ...]
    unequal: tuple[str, ...]

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return not self.differences and not self.unequal

    def __str__(self) -> str:
        count = len(self.equal) + len(self.unequal)
        line = f"{len(self.equal)} of {count} outputs equal"
        return f"{line}; {', '.join(self.unequal)} differ" if self.unequal else line


def bundle_text(definition: Definition, run: Run, registry: Registry) -> str:
    """The bundle of a definition and a successful run of it."""
    steps = [
        {
            "function": step["function"],
            "source": source_hash(registry.get(step["function"]).function),
            "code_version": step["code_version"],
            "kwargs": dict(row.kwargs),
        }
        for row, step in zip(definition.rows, run.steps, strict=True)
    ]
    content = {
        _MARK: FORMAT,
        "name": definition.name,
        "description": definition.description,
        "author": definition.author,
        "version": definition.version,
        "rows": definition.as_rows(),
        "inputs": dict(run.inputs),
        "as_of": run.as_of.isoformat() if run.as_of else None,
        "steps": steps,
        "readings": run.readings,
        "outputs": run.fingerprints,
    }
    # One entry per line, so that differences can be read.
    lines = [f"{canonical_json(key)}: {canonical_json(value)}" for key, value in content.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def parse_bundle(text: str, imported_from: str | None = None) -> Bundle:
    """Reads a bundle, which may come from anybody.

    Raises:
        AnalysisError: it is none, or a newer version wrote it.
        InvalidAnalysis: its rows are none; with all faults.
    """
    found = parse_json(text)
    if not isinstance(found, Mapping) or _MARK not in found:
        raise AnalysisError("it is no bundle; make one by `lakehouse analyses export NAME -o FILE`")
    if found[_MARK] != FORMAT:
        raise AnalysisError(f"it is a bundle of version {found[_MARK]!r}, and this reads {FORMAT}; update Lakehouse")
    kinds = {"name": str, "version": str, "rows": list, "inputs": dict, "steps": list, "readings": list}
    for name, kind in {**kinds, "outputs": dict}.items():
        if not isinstance(found.get(name), kind):
            raise AnalysisError(f"the bundle has no {name}; export the analysis again")
    entries = [*found["steps"], *found["readings"]]
    if not all(isinstance(entry, Mapping) for entry in entries) or len(found["steps"]) != len(found["rows"]):
        raise AnalysisError("the bundle's steps don't fit its rows; export the analysis again")
    definition = definition_of(
        found["name"],
        found["rows"],
        found["inputs"],
        description=str(found.get("description") or ""),
        author=str(found.get("author") or ""),
        imported_from=imported_from,
    )
    outputs = {str(key): str(value) for key, value in found["outputs"].items()}
    return Bundle(definition, found["version"], definition.inputs, found["steps"], found["readings"], outputs)


def differences_before(bundle: Bundle, registry: Registry) -> Iterator[str]:
    """What is known to differ before anything runs: rows, and sources of functions."""
    rows_differ = False
    for number, (row, step) in enumerate(zip(bundle.definition.rows, bundle.steps, strict=True), start=1):
        said = step.get("kwargs")
        theirs = said if isinstance(said, Mapping) else {}
        for name in sorted({*row.kwargs, *theirs}):
            if (mine := row.kwargs.get(name)) != theirs.get(name):
                rows_differ = True
                yield (
                    f"row {number}, kwargs: {name} is {mine!r} in the rows, and was {theirs.get(name)!r} when the "
                    "sender ran them"
                )
        task = registry.find(str(step.get("function")))
        if task is None:
            yield f"row {number}, funcPath: {step.get('function')} isn't installed here{registry.hint(row.func_path)}"
        elif registry.find(row.func_path) != task:
            yield (
                f"row {number}, funcPath: {row.func_path} is {registry.find(row.func_path)} here, and was {task} when "
                "the sender ran it"
            )
        elif source_hash(task.function) != step.get("source"):
            yield f"row {number}, funcPath: the source of {task} here isn't the sender's"
    if bundle.definition.version != bundle.version and not rows_differ:
        versions = f"their version is {bundle.definition.version[:12]}, and was {bundle.version[:12]}"
        yield f"rows: {versions} when the sender ran them"


def differences_of_data(bundle: Bundle, readings: list[Mapping[str, Any]]) -> Iterator[str]:
    """What differs in the data that were read, by table, column and rows."""
    for theirs, mine in zip(bundle.readings, readings, strict=False):
        if theirs.get("fingerprint") == mine["fingerprint"]:
            continue
        what = f"data of {mine['table']}"
        if theirs.get("rows") != mine["rows"]:
            yield f"{what}: {mine['rows']:,} rows here, {theirs.get('rows')} at the sender"
            continue
        yield f"{what}: {_columns(theirs, mine)} differs{_rows(theirs, mine)}"
    if len(bundle.readings) != len(readings):
        yield f"data: {len(readings)} readings of the lake here, {len(bundle.readings)} at the sender"


def _columns(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    said = theirs.get("columns")
    known = said if isinstance(said, Mapping) else {}
    names = [name for name, digest in mine["columns"].items() if known.get(name) != digest]
    return f"column {', '.join(names)}" if names else "the order of columns"


def _rows(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    said = theirs.get("blocks")
    if not isinstance(said, list) or len(said) != len(mine["blocks"]):
        return ""
    pairs = enumerate(zip(said, mine["blocks"], strict=True))
    places = [place for place, (their, own) in pairs if their != own]
    spans = [f"{place * BLOCK_ROWS + 1} to {(place + 1) * BLOCK_ROWS}" for place in places[:3]]
    more = f" and {len(places) - 3} more blocks" if len(places) > 3 else ""
    return f" in rows {', '.join(spans)}{more}" if spans else ""
