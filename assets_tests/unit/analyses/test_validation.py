"""All faults are named at once, with row, column and what to do, and nothing runs or is imported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from assets_tests.support.four_tasks import ROWS, TASKS
from lakehouse.analyses import Analysis, AnalysisError, InvalidAnalysis, Tasks
from lakehouse.analyses.registry import TaskError
from lakehouse.analyses.signatures import unused_defaults

SHAPES: dict[str, tuple[Callable[..., Any], list[int], list[int], dict[str, Any], bool, dict[str, Any]]] = {
    # signature, numbers of inputs that fit, that don't, keywords it needs, whether it takes any other, its defaults
    "nothing": (lambda: 0, [0], [1], {}, False, {}),
    "positional": (lambda a, b: 0, [2], [0, 1, 3], {}, False, {}),
    "positional, defaults": (lambda a, b=1: 0, [1, 2], [0, 3], {}, False, {"b": 1}),
    "positional, **kw": (lambda a, **kw: 0, [1], [0, 2], {}, True, {}),
    "positional, defaults, **kw": (lambda a, b=1, **kw: 0, [1, 2], [0, 3], {}, True, {"b": 1}),
    "*args": (lambda *args: 0, [0, 1, 5], [], {}, False, {}),
    "positional, *args": (lambda a, *args: 0, [1, 2, 5], [], {}, False, {}),
    "positional, *args, keyword, **kw": (lambda a, *args, k, **kw: 0, [1, 4], [], {"k": 1}, True, {}),
    "positional, *args, default, **kw": (lambda a, *args, k=2, **kw: 0, [1, 4], [], {}, True, {"k": 2}),
    "positional, *args, default": (lambda a, *args, k=2: 0, [1, 4], [], {}, False, {"k": 2}),
    "all with defaults": (lambda a=1, b=2: 0, [0, 1, 2], [3], {}, False, {"a": 1, "b": 2}),
    "all with defaults, **kw": (lambda a=1, b=2, **kw: 0, [0, 1, 2], [3], {}, True, {"a": 1, "b": 2}),
    "**kw": (lambda **kw: 0, [0], [1], {}, True, {}),
    "*args, **kw": (lambda *args, **kw: 0, [0, 1, 5], [], {}, True, {}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes__each_signature_is_held_against_the_row(shape: str) -> None:
    function, fits, fails, needed, takes_more, defaults = SHAPES[shape]
    tasks = Tasks()
    tasks.task("t.it")(function)

    def faults(count: int, kwargs: dict[str, Any]) -> list[str]:
        keys = [f"k{number}" for number in range(count)]
        analysis = Analysis.create([[0, "t.it", keys, kwargs, "z"]], tasks=tasks, inputs=dict.fromkeys(keys, 1))
        found = [str(fault) for fault in analysis.validate()]
        if not found:
            assert analysis.run()["z"] == 0
            assert analysis.is_runnable()
        return found

    for count in fits:
        assert faults(count, needed) == []
    for count in fails:
        (fault,) = faults(count, needed)
        assert fault.startswith("row 1, inputKeys: t.it: expected=")
        assert f"received={count}" in fault
    odd = faults(fits[0], {**needed, "other": 5})
    assert odd == [] if takes_more else ["'other' (value 5)" in each for each in odd] == [True]
    for name in needed:
        (fault,) = faults(fits[0], {})
        assert f"the keyword {name!r} is missing" in fault
    (task,) = tasks
    left = {name: value for name, value in defaults.items() if name not in list(task.signature.parameters)[: fits[0]]}
    assert unused_defaults(task.signature, fits[0], needed) == left


def test_faults__are_all_named_before_anything_runs() -> None:
    ran: list[int] = []
    tasks = Tasks()
    tasks.task("t.ran")(lambda: ran.append(1))
    rows = [
        [0, "t.ran", [], {}, "a"],
        [1, "four.gg", "a", {}, "b"],  # unknown function
        [1, "four.g", [], {}, "c"],  # arity
        [1, "t.ran", [], {"windw": 5}, "d"],  # unknown keyword
        [2, "four.g", "nowhere", {}, "e"],  # missing key
        [2, "four.g", "late", {}, "f"],  # used before it is made
        [3, "four.f", [], {}, ["late"]],
        [3, "four.f", [], {}, "late"],  # made twice
    ]
    with pytest.raises(InvalidAnalysis) as refused:
        Analysis.create(rows, tasks=[*TASKS, *tasks]).run()
    assert [(fault.row, fault.column) for fault in refused.value.faults] == [
        (2, "funcPath"), (3, "inputKeys"), (4, "kwargs"), (5, "inputKeys"), (6, "inputKeys"), (8, "outputKeys"),
    ]  # fmt: skip
    text = str(refused.value)
    for words in (
        "6 faults, and nothing was run",
        "no function is registered as 'four.gg'; did you mean",
        "four.g: expected=1, received=0",
        "t.ran: it has no keyword 'windw' (value 5)",
        "nothing gives key 'nowhere'",
        "key 'late' is used in order 2 before it is made by row 7 in order 3",
        "key 'late' is made by row 7, too",
    ):
        assert words in text
    assert ran == []


def test_faults__name_a_key_of_the_same_order_and_an_input_made_again() -> None:
    analysis = Analysis.create([[1, "four.f", [], {}, "a"], [1, "four.g", "a", {}, "b"]], tasks=TASKS, inputs={"b": 1})
    assert [str(fault).partition(";")[0] for fault in analysis.validate()] == [
        "row 2, outputKeys: key 'b' is an input, too",
        "row 2, inputKeys: key 'a' is used in order 1 before it is made by row 1 in order 1",
    ]


@pytest.mark.parametrize(
    "path", ["os.system", "builtins.eval", "/etc/passwd", "https://example.org/f.py", "SELECT 1", "antigravity.fly"]
)
def test_rows__name_only_registered_functions(path: str) -> None:
    with pytest.raises(InvalidAnalysis, match="no function is registered as"):
        Analysis.create([[0, path, [], {}, "a"]]).run()
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("table", ["/etc/passwd", "s3://bucket/x", "wiki.official_daily; DROP", "(SELECT 1)", 7])
def test_rows__name_tables_only(table: object) -> None:
    kwargs = {"table": table, "key": "symbol", "columns": ["session"]}
    analysis = Analysis.create([[0, "series.load", ["t", "d"], kwargs, "a"]], inputs={"t": "JPM", "d": "session"})
    (fault,) = analysis.validate()
    assert (fault.row, fault.column) == (1, "kwargs")
    assert "it names no table of the lake" in fault.message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- !!python/object/apply:os.system [ls]", "tag"),
        ("- !!python/name:os.system", "tag"),
        ("a: &x [1]\nb: *x", "alias or anchor"),
        ("[" * 1000, "nested deeper than"),
        ("- " * 1000, "nested deeper than"),
        pytest.param("[" * 10_000_000, "10,000,000 characters", id="10 MB of nesting"),
        ('{"rows": [' + '{"a":' * 200, "nested deeper than"),
        ('{"rows": [], "rows": []}', "twice"),
        ('{"rows": [{"order": NaN}]}', "no number of JSON"),
        ("rows:\n  - order: 1\n    order: 2", "second time"),
        ("{", "no JSON"),
        ("just text", "it has no rows"),
        ("a: [1", "no YAML"),
    ],
)
def test_texts__are_refused_when_they_are_more_than_plain_rows(text: str, problem: str) -> None:
    with pytest.raises(AnalysisError, match=problem):
        Analysis.from_text(text)


def test_rows__that_are_none_are_named_with_row_and_column() -> None:
    deep: list[Any] = []
    for _ in range(50_000):
        deep = [deep]
    rows = [
        {"order": "1", "funcPath": "", "inputKeys": 5, "kwargs": [], "outputKeys": ["a b"]},
        {"order": True, "funcPath": "four.f", "inputkeys": "a"},
        [1, 2],
        "row",
        [0, "four.f", [], {"deep": deep}, "a"],
        [0, "four.f", [], {"odd": object()}, "a"],
        [0, "four.f", [], {"infinite": float("inf")}, "a"],
    ]
    with pytest.raises(InvalidAnalysis) as refused:
        Analysis.create(rows)
    assert [(fault.row, fault.column) for fault in refused.value.faults] == [
        *((1, name) for name in ("order", "funcPath", "inputKeys", "outputKeys", "kwargs")),
        (2, "inputkeys"), (2, "order"), (3, "row"), (4, "row"), (5, "kwargs"), (6, "kwargs"), (7, "kwargs"),
    ]  # fmt: skip
    assert "did you mean 'inputKeys'?" in str(refused.value)


def test_registry__knows_versions_and_aliases() -> None:
    tasks = Tasks()
    tasks.task("t.it", version=1, aliases=["old.it"])(lambda: 1)
    tasks.task("t.it", version=2)(lambda: 2)

    def ran(path: str) -> Any:
        return Analysis.create([[0, path, [], {}, "a"]], tasks=tasks).run()["a"]

    assert [ran(path) for path in ("t.it", "t.it@1", "t.it@2", "practice.t.it", "old.it")] == [2, 1, 2, 2, 1]
    with pytest.raises(InvalidAnalysis, match=r"its versions are t\.it@1, t\.it@2"):
        ran("t.it@3")
    with pytest.raises(TaskError, match=r"two functions are registered as four\.f@1"):
        Analysis.create(ROWS, tasks=[*TASKS, *_other()])


def _other() -> Tasks:
    tasks = Tasks()
    tasks.task("four.f")(lambda: 3)
    return tasks
