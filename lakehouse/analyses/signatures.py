"""Compares a row's input keys and keywords with the signature of its function.

`*args` switches the check of the number of input keys off, `**kwargs` that of unknown keywords. Keyword-only arguments
come from the row's keywords.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from inspect import Parameter, Signature
from typing import Any

from lakehouse.errors import did_you_mean

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_KEYWORD = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def faults_of(signature: Signature, path: str, count: int, kwargs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(column, what is wrong and what to do) of a row with so many input keys and these keywords."""
    parameters = signature.parameters.values()
    positional = [each for each in parameters if each.kind in _POSITIONAL]
    takes_any = any(each.kind is Parameter.VAR_POSITIONAL for each in parameters)
    takes_more = any(each.kind is Parameter.VAR_KEYWORD for each in parameters)
    known = [each.name for each in parameters if each.kind in _BY_KEYWORD]

    filled = {each.name for each in positional[:count]}
    needed = [
        each
        for each in positional
        if each.default is Parameter.empty and (each.name not in kwargs or each.kind is Parameter.POSITIONAL_ONLY)
    ]
    if not takes_any and (count < len(needed) or count > len(positional)):
        expected = f"{len(needed)}" if len(needed) == len(positional) else f"{len(needed)} to {len(positional)}"
        names = ", ".join(each.name for each in positional) or "none"
        yield "inputKeys", f"{path}: expected={expected}, received={count}; its arguments are {names}"
    for name, value in kwargs.items():
        if name in filled and name in known:
            yield "kwargs", f"{path}: {name}={value!r} is given by an input key, too; remove one of the two"
        elif not takes_more and name not in known:
            hint = did_you_mean(name, known) or f"; its keywords are {', '.join(known) or 'none'}"
            yield "kwargs", f"{path}: it has no keyword {name!r} (value {value!r}){hint}"
    for each in parameters:
        if each.kind is Parameter.KEYWORD_ONLY and each.default is Parameter.empty and each.name not in kwargs:
            yield "kwargs", f"{path}: the keyword {each.name!r} is missing; it has no default, so give it"


def result_count(signature: Signature) -> int | None:
    """How many results a function returns, where its annotation says so: `tuple[A, B]` are two, other types one.
    None: it may be any number.
    """
    said = signature.return_annotation
    if said is Signature.empty:
        return None
    if said is None:
        return 1
    # A parametrized type such as tuple[int, str] is a type, too.
    is_plain = isinstance(said, type) and not hasattr(said, "__args__")
    try:
        tree = ast.parse(said.__name__ if is_plain else str(said), mode="eval").body
    except SyntaxError:
        return None
    if isinstance(tree, ast.Subscript) and _name(tree.value) == "tuple":
        parts = tree.slice.elts if isinstance(tree.slice, ast.Tuple) else [tree.slice]
        is_open = any(isinstance(part, ast.Constant) and part.value is Ellipsis for part in parts)
        return None if is_open else len(parts)
    return 1 if _name(tree) in _SINGLE else None


_SINGLE = {"int", "float", "str", "bool", "dict", "date", "DataFrame", "Series", "Chart", "None"}
"""Types of results that can't be taken apart."""


def _name(tree: ast.expr) -> str:
    if isinstance(tree, ast.Attribute):
        return tree.attr
    if isinstance(tree, ast.Constant):
        return str(tree.value)
    return tree.id if isinstance(tree, ast.Name) else ""


def unused_defaults(signature: Signature, count: int, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults that hold in a row, since neither its input keys nor its keywords replace them."""
    parameters = list(signature.parameters.values())
    filled = {each.name for each in [each for each in parameters if each.kind in _POSITIONAL][:count]}
    return {
        each.name: each.default
        for each in parameters
        if each.default is not Parameter.empty and each.name not in filled and each.name not in kwargs
    }
