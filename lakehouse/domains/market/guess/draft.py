"""Writes a guess as the text of a `defs.yaml`, with comments: why an entry has its value, and what couldn't be told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lakehouse.domains.market.guess.guess import Guess
from lakehouse.printable import printable

_FLOW = frozenset({"venue", "time", "named", "constants"})
"""Entries in one line."""
_COMMENTS = {
    "url": "LAKEHOUSE_{source}_URL takes precedence",
    "holds": "an hour, a day, or (history) all of the time in one object",
    "volume": "no volumes: every bar counts as traded",
    "calendar": "of exchange_calendars; the sessions, and their hours",
}
_WIDTH = 100


def draft(found: Guess, command: str) -> str:
    """The text of the file.

    Args:
        command: by which it was made.
    """
    source = found.attributes["source"]
    lines = [
        f"# {source}: written by `{command}`, from a sample. Correct what is wrong, and run",
        f"# `lakehouse check {source}` until it finds nothing; then `lakehouse update {source}` loads it.",
    ]
    if found.doubts:
        lines += ["#", "# The sample doesn't tell:"]
        lines += [line for doubt in found.doubts for line in _wrapped(doubt)]
    if found.shown:
        lines += ["#", f"# The first rows of {printable(found.shown_of)}:"]
        lines += [f"#   {printable(line)[:_WIDTH]}" for line in found.shown]
    lines += ["type: lakehouse.components.MarketSource", "attributes:"]
    comments = {key: text.format(source=source.upper()) for key, text in _COMMENTS.items()} | found.reasons
    lines += _entries(found.attributes, "  ", comments)
    return "\n".join(lines) + "\n"


def _wrapped(text: str) -> Iterator[str]:
    import textwrap

    yield from textwrap.wrap(
        printable(text), _WIDTH, initial_indent="#   - ", subsequent_indent="#     ", break_on_hyphens=False
    )


def _entries(entries: Mapping[str, Any], indent: str, comments: Mapping[str, str]) -> Iterator[str]:
    for key, value in entries.items():
        nested = isinstance(value, dict) and key not in _FLOW
        line = f"{indent}{_in_flow(key)}:{'' if nested else f' {_in_flow(value)}'}"
        comment = comments.get(key)
        if comment and len(line) + len(comment) > _WIDTH:
            yield f"{indent}# {comment}"
        yield f"{line} # {comment}" if comment and len(line) + len(comment) <= _WIDTH else line
        if nested:
            yield from _entries(value, f"{indent}  ", {} if key == "columns" else comments)


def _in_flow(value: Any) -> str:
    """A value in YAML's flow style, on one line."""
    import yaml

    if isinstance(value, str) and ("%" in value or (len(value) == 1 and not value.isalnum())):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_in_flow(key)}: {_in_flow(held)}" for key, held in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_in_flow, value)) + "]"
    # In a list of flow style a text is quoted wherever it has to be.
    return yaml.safe_dump([value], default_flow_style=True, width=10**6, allow_unicode=True).strip()[1:-1]
