"""The program that answers one query of an assistant: reads a question from its input, and writes the answer or the
error to its output, both as JSON.
"""

from __future__ import annotations

import json
import math
import os
import sys
from typing import TYPE_CHECKING, Any

from lakehouse.api import Lake
from lakehouse.apps.mcp.queries import Question, Rows
from lakehouse.errors import LakehouseError, QueryLimitReached
from lakehouse.governance.role_lake import RoleLake
from lakehouse.lake.locked import for_whole_process
from lakehouse.settings import settings

if TYPE_CHECKING:
    import duckdb

_WHOLE_NUMBERS = 2**53
"""Readers of JSON may take numbers for floats: larger ones are text."""


def _main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    # What libraries print must not get into the answer.
    os.dup2(2, 1)
    json.dump(_answered(Question(**json.load(sys.stdin))), answers)
    answers.flush()
    # DuckDB's threads may keep computing after an interrupt, and the interpreter would wait for them.
    os._exit(0)


def _answered(question: Question) -> dict[str, Any]:
    import duckdb

    try:
        return vars(_rows(question))
    except (LakehouseError, duckdb.Error, OSError) as error:
        return {"error": str(error), "is_limit": isinstance(error, QueryLimitReached)}


def _rows(question: Question) -> Rows:
    role = question.role
    lake: Lake | RoleLake = Lake.open(role=role) if role is not None else Lake.open(settings(), locked=True)
    assert lake.limits is not None
    with for_whole_process(lake.limits) as lake.limits, lake.limits.explained():
        relation = lake.sql(question.query)
        if relation is None:
            return Rows([], [], [], False)
        return _fitting(relation, question)


def _fitting(relation: duckdb.DuckDBPyRelation, question: Question) -> Rows:
    """The first rows of a result, as many as the question allows."""
    found: list[list[Any]] = []
    columns, types = list(relation.columns), [str(kind) for kind in relation.types]
    characters = 0
    for row in relation.limit(question.max_rows + 1).fetchall():
        values = [_plain(value) for value in row]
        characters += len(json.dumps(values, ensure_ascii=False))
        if len(found) == question.max_rows or characters > question.max_characters:
            return Rows(columns, types, found, True)
        found.append(values)
    return Rows(columns, types, found, False)


def _plain(value: object) -> Any:
    """A value of JSON: numbers, texts and booleans as they are, decimals and times as DuckDB's text."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _WHOLE_NUMBERS else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value)


if __name__ == "__main__":
    _main()
