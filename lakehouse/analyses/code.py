"""The code versions of tasks: a hash of a function's source, and of a step's source and keywords.

The source of a function includes that of the functions and constants it uses from its own package, since a changed
helper changes the result too.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

from lakehouse.analyses.canonical import sha256_of
from lakehouse.analyses.registry import Task

_CONSTANTS = (bool, int, float, str, tuple, frozenset)


@cache
def source_hash(function: Callable[..., Any]) -> str:
    """The sha256 of a function's source and of what it uses from its package."""
    package = function.__module__.rpartition(".")[0] or function.__module__
    found: dict[str, str] = {}
    _collect(function, package, found)
    return sha256_of(found)


def code_version(task: Task, kwargs: Mapping[str, Any]) -> str:
    """The version of a step: of its function's source and its keywords."""
    return sha256_of({"source": source_hash(task.function), "kwargs": dict(kwargs)})


def _collect(value: Any, package: str, found: dict[str, str]) -> None:
    """Adds the source of a function, and of those that it names, to `found` by their names."""
    function = inspect.unwrap(value)
    if not isinstance(function, FunctionType):
        return
    name = f"{function.__module__}.{function.__qualname__}"
    if name in found or not f"{function.__module__}.".startswith(f"{package}."):
        return
    found[name] = _source(function)
    names = set(_names(function.__code__))
    for used in sorted(names):
        other = function.__globals__.get(used)
        if isinstance(other, _CONSTANTS) and not used.startswith("__"):
            found[f"{function.__module__}.{used}"] = repr(other)
        elif isinstance(other, ModuleType) and other.__name__.startswith(f"{package}."):
            for attribute in sorted(names):
                _collect(getattr(other, attribute, None), package, found)
        else:
            _collect(other, package, found)


def _source(function: FunctionType) -> str:
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        # Typed at a prompt: there is no file.
        return function.__code__.co_code.hex() + repr(function.__code__.co_consts)


def _names(code: CodeType) -> Iterator[str]:
    """The global names that a function's code uses, those of its inner functions included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
