"""The definition of an analysis: rows of tasks, and its inputs.

A row has the columns `order, funcPath, inputKeys, kwargs, outputKeys`. Rows come from lists, mappings, a frame, JSON or
YAML (texts are read by `reading`), and are turned into the same `Row`s, so that every form has the same version.
`validation` judges whether the rows can be run.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lakehouse.analyses.canonical import canonical_json, sha256_of
from lakehouse.errors import LakehouseError, did_you_mean

if TYPE_CHECKING:
    import polars as pl

COLUMNS = ("order", "funcPath", "inputKeys", "kwargs", "outputKeys")
STORE = "__data__"
"""Input key that gives a task the whole store."""
MAX_ROWS, MAX_DEPTH, MAX_TEXT, MAX_ITEMS = 1_000, 20, 10_000, 10_000
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")


class AnalysisError(LakehouseError, ValueError):
    """An analysis can't be read, run or handed over as asked."""


@dataclass(frozen=True)
class Fault:
    """What is wrong in a row (from 1; None: in the whole) and column, and what to do."""

    row: int | None
    column: str
    message: str

    def __str__(self) -> str:
        where = f"row {self.row}, {self.column}" if self.row is not None else self.column
        return f"{where}: {self.message}"


class InvalidAnalysis(AnalysisError):
    """An analysis has faults; nothing of it was run."""

    def __init__(self, message: str, hint: str | None = None, *, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message, hint)
        self.faults = list(faults)

    @classmethod
    def of(cls, name: str, faults: Sequence[Fault]) -> InvalidAnalysis:
        """The error that tells of all faults of an analysis."""
        lines = "".join(f"\n  {fault}" for fault in faults)
        count = f"{len(faults)} fault{'s' if len(faults) != 1 else ''}"
        return cls(f"{name or 'the analysis'} has {count}, and nothing was run:{lines}", faults=faults)


@dataclass(frozen=True)
class Row:
    """A task: when it runs, its function, the keys of its arguments, its keyword arguments, the keys of its results."""

    order: int
    func_path: str
    input_keys: tuple[str, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    output_keys: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The row by column names, in JSON's types."""
        values = (self.order, self.func_path, list(self.input_keys), dict(self.kwargs), list(self.output_keys))
        return dict(zip(COLUMNS, values, strict=True))


@dataclass(frozen=True)
class Definition:
    """An analysis. `inputs` are the values of input keys that a run may replace."""

    name: str
    rows: tuple[Row, ...]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    author: str = ""
    imported_from: str | None = None

    @cached_property
    def version(self) -> str:
        """The sha256 of the rows' canonical JSON."""
        return sha256_of([row.as_dict() for row in self.rows])

    @property
    def in_order(self) -> list[tuple[int, Row]]:
        """The rows with their places (from 0), by (order, place)."""
        return sorted(enumerate(self.rows), key=lambda entry: (entry[1].order, entry[0]))

    def steps(self) -> list[tuple[int, list[tuple[int, Row]]]]:
        """The rows of each order, ascending."""
        found: dict[int, list[tuple[int, Row]]] = {}
        for place, row in self.in_order:
            found.setdefault(row.order, []).append((place, row))
        return list(found.items())

    @property
    def output_keys(self) -> list[str]:
        """The keys that the tasks make, in the order in which they are made."""
        return [key for _, row in self.in_order for key in row.output_keys]

    @property
    def input_keys(self) -> list[str]:
        """The keys that must be given, in the order in which they are used."""
        made = {STORE, *self.output_keys}
        return list(dict.fromkeys(key for _, row in self.in_order for key in row.input_keys if key not in made))

    def as_rows(self) -> list[dict[str, Any]]:
        """The rows as mappings."""
        return [row.as_dict() for row in self.rows]

    def as_json(self) -> str:
        """The rows as canonical JSON."""
        return canonical_json(self.as_rows())

    def as_yaml(self) -> str:
        """The rows as YAML."""
        import yaml

        # PyYAML writes unprintable characters, such as U+0085, in a form that it reads as others.
        is_printable = self.as_json().isprintable()
        return yaml.safe_dump(self.as_rows(), sort_keys=False, allow_unicode=is_printable, width=120)

    def as_frame(self) -> pl.DataFrame:
        """The rows as a frame; `kwargs` is JSON text."""
        import polars as pl

        rows = [row | {"kwargs": canonical_json(row["kwargs"])} for row in self.as_rows()]
        kinds = (pl.Int64, pl.String, pl.List(pl.String), pl.String, pl.List(pl.String))
        return pl.DataFrame(rows, schema=dict(zip(COLUMNS, kinds, strict=True)))


def definition_of(name: str, rows: Iterable[Any], inputs: Mapping[str, Any] | None = None, **about: Any) -> Definition:
    """The definition of rows that are mappings, or sequences in the order of the columns.

    Raises:
        InvalidAnalysis: some aren't rows; with all faults.
    """
    faults: list[Fault] = []
    if not _NAME.fullmatch(name):
        faults.append(
            Fault(None, "name", f"{name!r} is no name; write small letters, digits and underscores, a letter first")
        )
    found = list(rows)
    if len(found) > MAX_ROWS:
        raise InvalidAnalysis.of(name, [Fault(None, "rows", f"{len(found):,} rows; at most {MAX_ROWS:,} are read")])
    if not found:
        faults.append(Fault(None, "rows", "there is none; write at least one task"))
    read = [_row(number, raw, faults) for number, raw in enumerate(found, start=1)]
    values = {}
    for key, value in (inputs or {}).items():
        if not isinstance(key, str) or not _KEY.fullmatch(key) or key == STORE:
            faults.append(Fault(None, "inputs", f"{key!r} can't be an input's key; write letters, digits, underscores"))
        else:
            values[key] = _json_value(value, f"inputs, {key}", None, faults)
    if faults:
        raise InvalidAnalysis.of(name, faults)
    return Definition(name, tuple(row for row in read if row is not None), values, **about)


def definition_of_frame(name: str, frame: pl.DataFrame, inputs: Mapping[str, Any] | None = None) -> Definition:
    """The definition of a frame with the five columns; `kwargs` is JSON text, or a struct.

    Raises:
        InvalidAnalysis: some rows are none; with all faults.
    """
    rows = []
    for number, row in enumerate(frame.to_dicts(), start=1):
        kwargs = row.get("kwargs")
        if isinstance(kwargs, str):
            try:
                row["kwargs"] = json.loads(kwargs) if len(kwargs) <= MAX_TEXT else None
            except (ValueError, RecursionError) as error:
                raise InvalidAnalysis.of(name, [Fault(number, "kwargs", f"it is no JSON: {error}")]) from error
        elif isinstance(kwargs, dict):
            row["kwargs"] = {key: value for key, value in kwargs.items() if value is not None}
        rows.append(row)
    return definition_of(name, rows, inputs)


def _row(number: int, raw: Any, faults: list[Fault]) -> Row | None:
    """A row of what was given; adds to `faults` what keeps it from being one."""
    before = len(faults)
    if isinstance(raw, Row):
        raw = raw.as_dict()
    if isinstance(raw, Sequence) and not isinstance(raw, str):
        if len(raw) != len(COLUMNS):
            faults.append(Fault(number, "row", f"it has {len(raw)} values; give {', '.join(COLUMNS)}"))
            return None
        raw = dict(zip(COLUMNS, raw, strict=True))
    if not isinstance(raw, Mapping):
        faults.append(Fault(number, "row", f"it is no row but {_kind(raw)}; give {', '.join(COLUMNS)}"))
        return None
    for name in raw:
        if name not in COLUMNS:
            hint = did_you_mean(str(name), COLUMNS) or f"; the columns are {', '.join(COLUMNS)}"
            faults.append(Fault(number, str(name)[:80], f"it is none of the columns{hint}"))
    order, path = raw.get("order"), raw.get("funcPath")
    if isinstance(order, bool) or not isinstance(order, int) or abs(order) >= 2**31:
        faults.append(Fault(number, "order", f"it is {_kind(order)}; give a whole number"))
    if not isinstance(path, str) or not path or len(path) > 200:
        faults.append(Fault(number, "funcPath", f"it is {_kind(path)}; name a registered function"))
    inputs = _keys(number, "inputKeys", raw.get("inputKeys"), faults)
    outputs = _keys(number, "outputKeys", raw.get("outputKeys"), faults)
    kwargs = raw.get("kwargs")
    if kwargs is None:
        kwargs = {}
    if not isinstance(kwargs, Mapping):
        faults.append(Fault(number, "kwargs", f"it is {_kind(kwargs)}; give a mapping of keywords"))
    else:
        kwargs = _json_value(kwargs, "kwargs", number, faults)
    if len(faults) > before:
        return None
    assert isinstance(order, int)
    assert isinstance(path, str)
    return Row(order, path, inputs, kwargs, outputs)


def _keys(number: int, column: str, given: Any, faults: list[Fault]) -> tuple[str, ...]:
    if given is None:
        return ()
    keys = (given,) if isinstance(given, str) else given
    if not isinstance(keys, Sequence):
        faults.append(Fault(number, column, f"it is {_kind(given)}; give a key or a list of keys"))
        return ()
    for key in keys:
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            faults.append(Fault(number, column, f"{_kind(key)} is no key; write letters, digits and underscores"))
        elif key == STORE and column == "outputKeys":
            faults.append(Fault(number, column, f"{STORE} is reserved for the whole store; name another key"))
    return tuple(str(key) for key in keys)


def _kind(value: Any) -> str:
    """A value as a fault names it."""
    if value is None:
        return "missing"
    text = repr(value) if isinstance(value, str | int | float | bool) else f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _json_value(value: Any, where: str, number: int | None, faults: list[Fault]) -> Any:
    """A copy of a value in JSON's types; adds to `faults` what JSON or the limits don't allow."""
    problems = list(_problems(value))
    faults.extend(Fault(number, where, problem) for problem in problems[:1])
    return None if problems else _copied(value)


def _problems(value: Any) -> Iterator[str]:
    """What keeps a value from being bounded JSON; without recursion, since it may be nested as deep as it likes."""
    waiting, seen = [(value, 1)], 0
    while waiting:
        part, depth = waiting.pop()
        seen += 1
        if depth > MAX_DEPTH:
            yield f"it is nested deeper than {MAX_DEPTH} levels; flatten it"
            return
        if seen > MAX_ITEMS:
            yield f"it has more than {MAX_ITEMS:,} values; put data into a table of the lake"
            return
        if isinstance(part, Mapping):
            for key, inner in part.items():
                if not isinstance(key, str) or len(key) > 200:
                    yield f"{_kind(key)} is no keyword; write text"
                    return
                waiting.append((inner, depth + 1))
        elif isinstance(part, list | tuple):
            waiting.extend((inner, depth + 1) for inner in part)
        elif isinstance(part, str):
            if len(part) > MAX_TEXT:
                yield f"it has a text of {len(part):,} characters; at most {MAX_TEXT:,} are read"
        elif isinstance(part, bool | date) or part is None:
            continue
        elif isinstance(part, int):
            if abs(part) >= 2**63:
                yield "it has a number of more than 64 bits; write a smaller one"
        elif isinstance(part, float):
            if not math.isfinite(part):
                yield f"{part} is no number of JSON; write a finite one"
        else:
            yield f"it has {_kind(part)}; write texts, numbers, true, false, null, lists and mappings"


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(inner) for inner in value]
    return value.isoformat() if isinstance(value, date) else value
