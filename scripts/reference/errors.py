"""The page of errors: every class of the tree in `lakehouse.errors`, with its messages and hints, as the code has them.

The code is parsed and not run, so that no library is imported. Parts of a message that depend on the case are shown as
the expression that fills them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import lakehouse
from scripts.reference.markdown import plain

_PACKAGE = Path(lakehouse.__file__).parent
ROOT = "LakehouseError"


@dataclass
class ErrorClass:
    """A class of errors, with what the code raises it with: (message, hint or None)."""

    name: str
    module: str
    meaning: str
    raised: list[tuple[str, str | None]] = field(default_factory=list)


@cache
def _trees() -> dict[str, ast.Module]:
    trees = {}
    for path in sorted(_PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(_PACKAGE.parent).with_suffix("").parts)
        trees[name] = ast.parse(path.read_text())
    return trees


def error_classes() -> dict[str, ErrorClass]:
    """The root and its branches, by name."""
    classes = [
        (module, node, [_last(base) for base in node.bases])
        for module, tree in _trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]
    found: dict[str, ErrorClass] = {}
    grown = True
    while grown:
        grown = False
        for module, node, bases in classes:
            if node.name not in found and (node.name == ROOT or any(base in found for base in bases)):
                meaning = " ".join((ast.get_docstring(node) or "").split())
                found[node.name] = ErrorClass(node.name, module, meaning)
                grown = True
    for tree in _trees().values():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = _last(call.func)
            if name in found and call.args and (message := _text(call.args[0])):
                entry = (message, _text(call.args[1]) if len(call.args) > 1 else None)
                if entry not in found[name].raised:
                    found[name].raised.append(entry)
    return dict(sorted(found.items()))


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _text(node: ast.expr) -> str | None:
    """The text of a literal or of an f-string; None for anything else."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(_pieces(node))
    return None


def _pieces(text: ast.JoinedStr) -> Iterator[str]:
    for part in text.values:
        if isinstance(part, ast.Constant):
            yield str(part.value)
        elif isinstance(part, ast.FormattedValue):
            yield f"<{_filled(part.value)}>"


def _filled(value: ast.expr) -> str:
    """A word for what fills a gap: the last name in its expression."""
    names = [node for node in ast.walk(value) if isinstance(node, ast.Name | ast.Attribute)]
    return _last(names[0]).lstrip("_") if names else "..."


def pages() -> dict[str, str]:
    """The page."""
    parts = [
        "# Errors",
        "What Lakehouse says when it can't go on, by class. In a message, `<...>` is filled in; most name what to do "
        "themselves, and where that is a sentence of its own, it follows as *Do*.",
    ]
    for each in error_classes().values():
        parts += [f"## {each.name}", f"{plain(each.meaning)} (`{each.module}`)"]
        lines = []
        for message, hint in sorted(each.raised, key=lambda entry: entry[0]):
            lines.append(f"- {plain(message)}" + (f" *Do*: {plain(hint)}" if hint else ""))
        parts.append("\n".join(lines))
    return {"errors.md": "\n\n".join(part for part in parts if part) + "\n"}
