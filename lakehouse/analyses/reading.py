"""Reads analyses from untrusted JSON and YAML texts, within limits.

Size, depth, aliases and tags are checked on the stream of tokens, before any object is made. `spec` checks what
the objects must be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from lakehouse.analyses.spec import COLUMNS, MAX_DEPTH, AnalysisError, Definition, definition_of
from lakehouse.lake.strict_yaml import yaml_documents

MAX_BYTES = 1_000_000
_MAX_EVENTS = 100_000
_NESTING = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
_WHOLE_DEPTH = MAX_DEPTH + 5
"""Levels of a whole text: those of a value, below the analysis, its rows and a row."""


def parse_json(text: str) -> Any:
    """The value of a bounded JSON text.

    Raises:
        AnalysisError: it is too long, nested too deep, or no JSON.
    """
    _require_size(text)
    depth = 0
    for found in _NESTING.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
        if depth > _WHOLE_DEPTH:
            raise _too_deep()
    try:
        return json.loads(text, object_pairs_hook=_without_repetition, parse_constant=_no_number)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise error if isinstance(error, AnalysisError) else AnalysisError(f"it is no JSON: {error}") from error


def parse_yaml(text: str) -> Any:
    """The value of a bounded YAML text without tags and aliases.

    Raises:
        AnalysisError: it is too long, nested too deep, has a tag or an alias, or is no YAML.
    """
    import yaml

    _require_size(text)
    depth = 0
    try:
        # The parser in C is ten times as fast; not every build has it.
        for number, event in enumerate(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
                raise AnalysisError(f"line {line} has an alias or anchor; write its value instead")
            if (tag := getattr(event, "tag", None)) is not None:
                raise AnalysisError(f"line {line} has the tag {tag!r}; write plain values")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _WHOLE_DEPTH:
                raise _too_deep()
            if number > _MAX_EVENTS:
                raise AnalysisError(f"it has more than {_MAX_EVENTS:,} values; put data into a table of the lake")
        documents = yaml_documents(text)
    except RecursionError:
        raise _too_deep() from None
    except yaml.YAMLError as error:
        raise AnalysisError(f"it is no YAML: {error}") from error
    except ValueError as error:
        raise error if isinstance(error, AnalysisError) else AnalysisError(f"it is no YAML: {error}") from error
    if len(documents) != 1:
        raise AnalysisError(f"it has {len(documents)} documents; write one")
    return documents[0]


def definition_in(name: str, text: str) -> Definition:
    """The definition in a JSON or YAML text: a list of rows, or a mapping with `rows` and perhaps `inputs`, `name`,
    `description`; also a defs.yaml, whose entries are below `attributes`.

    Raises:
        AnalysisError: it can't be read.
        InvalidAnalysis: it has rows that are none; with all faults.
    """
    is_json = text.lstrip()[:1] in ("[", "{")
    found = parse_json(text) if is_json else parse_yaml(text)
    if isinstance(found, Mapping) and isinstance(found.get("attributes"), Mapping):
        found = found["attributes"]
    if isinstance(found, list):
        return definition_of(name, found)
    if not isinstance(found, Mapping) or not isinstance(found.get("rows"), list):
        raise AnalysisError(f"it has no rows; write a list of rows with {', '.join(COLUMNS)}, or `rows:` with one")
    inputs = found.get("inputs") or {}
    if not isinstance(inputs, Mapping):
        raise AnalysisError("its inputs are no mapping; write `key: value`")
    named = found.get("analysis", found.get("name", name))
    about = {name: str(found.get(name) or "") for name in ("description", "author")}
    return definition_of(str(named), found["rows"], inputs, **about)


def _require_size(text: str) -> None:
    if len(text) > MAX_BYTES:
        raise AnalysisError(f"it has {len(text):,} characters; at most {MAX_BYTES:,} are read")


def _too_deep() -> AnalysisError:
    return AnalysisError(f"it is nested deeper than {_WHOLE_DEPTH} levels; flatten it")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise AnalysisError(f"the key {repeated!r} is in one object twice; remove one of the two")
    return found


def _no_number(text: str) -> Any:
    raise AnalysisError(f"{text} is no number of JSON; write a finite one")
