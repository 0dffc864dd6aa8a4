"""The kernel knows no domain: not its words, and not by the name of a module in a string."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import lakehouse

ROOT = Path(lakehouse.__file__).parent
KERNEL = ("lake", "ingest", "derive")
WORDS = {"venue", "symbol", "bar", "quote", "calendar", "session"}
OF_LIBRARIES = {"quote", "quote_plus", "get_session", "aws_session_token"}
"""Names of urllib, botocore and obstore."""
STORED = {"session", "first_session", "last_session"}
"""Columns of the ledger and the quarantine, which stored lakes have."""
_MODULE = re.compile(r"lakehouse(\.\w+)+(:\w+)?")


def modules(*packages: str) -> Iterator[tuple[Path, ast.Module]]:
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text())


def identifiers(tree: ast.Module) -> set[str]:
    """Every name that the module gives or uses, but for what it imports of libraries."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.keyword(arg=str(name)):
                found.add(name)
    return found


def words(name: str) -> set[str]:
    """`PriceBar` and `price_bar` are of the words price and bar."""
    return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_"))


def test_the_kernel_uses_no_word_of_a_domain() -> None:
    said = {
        f"{path}: {name}"
        for path, tree in modules(*KERNEL)
        for name in identifiers(tree) - OF_LIBRARIES - STORED
        if words(name) & WORDS and name != "progress_bar"
    }
    assert said == set()


def strings(tree: ast.Module) -> Iterator[str]:
    """The strings of a module that are no docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(statement.value)
        for node in ast.walk(tree)
        if isinstance(node, documented)
        for statement in node.body
        if isinstance(statement, ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def names_a_module(text: str) -> bool:
    name = text.partition(":")[0]
    while "." in name:
        try:
            if importlib.util.find_spec(name) is not None:
                return name != "lakehouse"
        except ModuleNotFoundError:
            pass
        name = name.rpartition(".")[0]
    return False


def test_no_string_names_a_module_or_a_function() -> None:
    """Imports that go around the layers by a dotted path would be seen by no tool."""
    said = {
        f"{path}: {text}"
        for path, tree in modules("")
        for text in strings(tree)
        if _MODULE.fullmatch(text) and names_a_module(text)
    }
    assert said == set()
    contracts = {path.name: path.read_text() for path in ROOT.rglob("contracts/*.yaml")}
    assert {name for name, text in contracts.items() if "lakehouse." in text} == set()


def test_no_query_is_streamed_to_be_collected() -> None:
    """`execute` streams its rows. DuckDB 1.5 never answers so where a UNION ALL has more of them than its buffer: its
    threads wait for one another. `sql` collects the rows.
    """
    collected = {"pl", "to_arrow_table", "arrow", "fetch_arrow_table", "df"}
    found = {
        f"{path}:{node.lineno}"
        for path, tree in modules("")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in collected
        if isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute)
        if node.value.func.attr == "execute"
    }
    assert found == set()
