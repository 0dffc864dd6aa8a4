"""Rows in any form, with whatever keywords, keep their version; code and broken files are told apart."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.analyses import Analysis, Tasks
from lakehouse.analyses.code import code_version, source_hash
from lakehouse.analyses.described import AnalysisConfig, described_in
from lakehouse.analyses.limited import Limits
from lakehouse.analyses.reading import definition_in
from lakehouse.analyses.spec import definition_of, definition_of_frame
from lakehouse.catalog import DEFS

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["2007-01-01", "yes", "null", "~", "1e3", "0x1F", "12:30:45", "<<", "=", "- a", "# b", "\x85", "\u2028", "''"]
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(
    SCALARS.filter(lambda value: value not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(TEXTS, VALUES, max_size=4), st.integers(-5, 5))
def test_forms__of_any_keywords_have_the_same_version(kwargs: dict[str, Any], order: int) -> None:
    made = definition_of("x", [[order, "t.it", ["a", "b"], kwargs, "c"], [order, "t.it", None, None, None]])
    for again in (
        definition_of("x", made.as_rows()),
        definition_of_frame("x", made.as_frame()),
        definition_in("x", made.as_json()),
        definition_in("x", made.as_yaml()),
    ):
        assert again.version == made.version
        assert again.as_rows() == made.as_rows()


def test_dates__of_yaml_are_texts() -> None:
    analysis = Analysis.from_yaml(
        "rows: [{order: 1, funcPath: t.it, kwargs: {day: 2007-01-01}}]\ninputs: {a: 2008-02-29}"
    )
    assert analysis.as_rows()[0]["kwargs"] == {"day": "2007-01-01"}
    assert analysis.definition.inputs == {"a": "2008-02-29"}
    assert definition_of("x", [[1, "t.it", [], {"day": date(2007, 1, 1)}, []]]).version == analysis.version


def test_source_hash__follows_what_a_function_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    def hashes(name: str, helper: str, constant: int, after: str = "") -> tuple[str, str]:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / "helpers.py").write_text(
            f"def helper(a):\n    return {helper}\n\ndef unused(a):\n    return 7{after}\n"
        )
        (folder / "tasks.py").write_text(
            f"from {name} import helpers\nFACTOR = {constant}\n"
            "def f(a):\n    return [helpers.helper(each) * FACTOR for each in a]\n"
            "def g(a):\n    return a\n"
        )
        module: ModuleType = __import__(f"{name}.tasks", fromlist=["f"])
        # The names of the packages differ, and so would those in the hash.
        for each in (module, sys.modules[f"{name}.helpers"]):
            for function in vars(each).values():
                if callable(function):
                    function.__module__ = function.__module__.replace(name, "package")
        monkeypatch.setattr(sys.modules[f"{name}.helpers"], "__name__", "package.helpers")
        return source_hash(module.f), source_hash(module.g)

    first = hashes("one", "a + 1", 2)
    assert hashes("two", "a + 1", 2, after="0") == first
    for changed in (hashes("three", "a + 2", 2), hashes("four", "a + 1", 3)):
        assert changed[0] != first[0]
        assert changed[1] == first[1]


def test_code_version__is_of_the_source_and_the_keywords() -> None:
    tasks = Tasks()
    tasks.task("t.it")(lambda: 1)
    (task,) = tasks
    versions = {code_version(task, kwargs) for kwargs in ({}, {"a": 1}, {"a": 2})}
    assert len(versions) == 3


def test_described_in__leaves_out_broken_files_and_names_them(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    text = (DEFS / "analyses" / "test_period" / "defs.yaml").read_text()
    (tmp_path / "one" / "defs.yaml").write_text(text)
    (tmp_path / "two" / "defs.yaml").write_text(text.replace("order: 1", "order: one"))
    (tmp_path / "three" / "defs.yaml").write_text(text)
    found = described_in([tmp_path])
    assert list(found.found) == ["test_period"]
    assert found.found["test_period"].author == "Lakehouse"
    config = AnalysisConfig(analysis="x", seconds=5, rows=[])
    assert config.limits == Limits(seconds=5)
    twice, faulty = (str(found.broken[tmp_path / name / "defs.yaml"]) for name in ("three", "two"))
    assert f"{tmp_path / 'one' / 'defs.yaml'} describes test_period, too; rename one of them" in twice
    assert "row 2, order: it is 'one'; give a whole number" in faulty
