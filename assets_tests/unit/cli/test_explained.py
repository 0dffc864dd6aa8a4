"""How a command ends by an error: in the error's own words, or by a traceback where the fault is ours."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
from collections.abc import Iterator

import pytest
import typer

import lakehouse
from lakehouse.cli.explained import errors, explained
from lakehouse.errors import HomeUnavailable, LakehouseError, SourceError


def branches(error: type[LakehouseError]) -> Iterator[type[LakehouseError]]:
    yield error
    for branch in error.__subclasses__():
        yield from branches(branch)


def all_errors() -> list[type[LakehouseError]]:
    """Every error of the tree, wherever it is defined."""
    for module in pkgutil.walk_packages(lakehouse.__path__, "lakehouse."):
        if ".defs." not in module.name:
            importlib.import_module(module.name)
    return sorted(set(branches(LakehouseError)), key=lambda error: error.__name__)


@pytest.mark.slow
def test_explained__ends_by_any_error_of_the_tree_in_its_own_words() -> None:
    found = all_errors()
    assert len(found) > 25
    for error in found:
        with errors.capture() as said, pytest.raises(typer.Exit) as ended, explained():
            raise error("xetra: the table is gone", "Load it again")
        assert said.get().split() == ["Error", "xetra:", "the", "table", "is", "gone.", "Load", "it", "again"]
        assert ended.value.exit_code == 2


def test_explained__leaves_our_own_faults_their_tracebacks() -> None:
    for fault in (ValueError, KeyError, RuntimeError, AssertionError):
        with pytest.raises(fault), explained():
            raise fault("a fault of the program")


def test_every_error_that_is_raised_beyond_its_module_is_of_the_tree() -> None:
    """What a person may see is caught by its root; private ones never leave their module."""
    all_errors()
    strangers = [
        error
        for base in (Exception, ValueError, RuntimeError, LookupError, OSError)
        for error in base.__subclasses__()
        if error.__module__.startswith("lakehouse.") and not issubclass(error, LakehouseError)
    ]
    assert sorted({error.__name__ for error in strangers}) == ["RepeatedMember", "_Bad", "_TryFailed"]


def test_an_error_keeps_its_parts_from_one_process_to_another() -> None:
    made = pickle.loads(pickle.dumps(SourceError("no URL for xetra", "Set LAKEHOUSE_XETRA_URL")))
    assert (made.message, made.hint) == ("no URL for xetra", "Set LAKEHOUSE_XETRA_URL")
    assert str(made) == "no URL for xetra. Set LAKEHOUSE_XETRA_URL"
    assert str(HomeUnavailable("it is a file")) == "it is a file"
