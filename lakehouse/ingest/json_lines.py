"""JSON, read so that nothing is lost: numbers keep their digits, and a member that comes twice is an error.

Used for objects in JSON Lines (a JSON object per line) and for the answers of APIs, whose records are stored that way.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

_WRAPPERS = {"$numberInt", "$numberLong", "$numberDouble", "$numberDecimal", "$oid", "$date", "$symbol"}
NESTED = "."
"""Between the members of a path, such as `data.items`."""


class Number(str):
    """A number as it was written: 0.10 and 1e400 stay what they are."""


def parse(text: str | bytes) -> Any:
    """A JSON document, with `Number` for numbers.

    Raises:
        ValueError: the text is not JSON (RFC 8259): NaN and Infinity aren't either; or an object has a member twice.
    """
    try:
        return json.loads(
            text,
            parse_float=Number,
            parse_int=Number,
            parse_constant=_not_a_number,
            object_pairs_hook=_members,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _not_a_number(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has the member {twice} more than once")
    return found


def at(document: Any, path: str) -> Any:
    """The value at a path of members, such as `data.items`; an empty path is the document. None where it has none."""
    for name in path.split(NESTED) if path else ():
        document = document.get(name) if isinstance(document, dict) else None
    return document


def lines(records: Iterable[Any]) -> bytes:
    """Records as JSON Lines, in UTF-8."""
    return b"".join(f"{_written(record)}\n".encode() for record in records)


def _written(value: Any) -> str:
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_written(name)}: {_written(held)}" for name, held in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    # Lone surrogates, which JSON can escape and UTF-8 can't hold, stay escaped.
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isascii() or _is_encodable(text) else json.dumps(value)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def fields(line: str | bytes, paths: Sequence[str]) -> list[str | None]:
    """The values at `paths` of the object in a line, as text: a number as it was written, true and false by their
    names, arrays and objects as JSON. None for null, and for a member that is missing. Values of extended JSON, such as
    {"$numberDouble": "2.55"}, are what they hold.

    Raises:
        ValueError: the line is not a JSON object (see `parse`).
    """
    document = parse(line)
    if not isinstance(document, dict):
        raise ValueError("it is not an object")
    return [_as_text(document[path] if path in document else at(document, path)) for path in paths]


def _as_text(value: Any) -> str | None:
    value = _unwrapped(value)
    if value is None or isinstance(value, str):
        return value
    return _written(value)


def _unwrapped(value: Any) -> Any:
    """The value in a wrapper of extended JSON, which says a type that JSON lacks."""
    while isinstance(value, dict) and len(value) == 1 and (name := next(iter(value))) in _WRAPPERS:
        value = value[name]
    return value
