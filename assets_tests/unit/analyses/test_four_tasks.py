"""Four tasks with known results: run at once, step by step, from rows in any order and in every form."""

from __future__ import annotations

import json
import random
from inspect import Signature
from typing import Any

import pytest

from assets_tests.support.four_tasks import RESULTS, ROWS, TASKS
from lakehouse.analyses import Analysis, InvalidAnalysis, Tasks
from lakehouse.analyses.runner import TaskFailed
from lakehouse.analyses.signatures import result_count
from lakehouse.analyses.spec import AnalysisError


def of(rows: list[Any], **inputs: Any) -> Analysis:
    return Analysis.create(rows, tasks=TASKS, inputs=inputs)


def test_run__gives_the_known_results_again_and_again() -> None:
    analysis = of(ROWS)
    assert analysis.is_runnable()
    assert analysis.run() == analysis.run() == RESULTS
    shuffled = list(ROWS)
    random.Random(3).shuffle(shuffled)
    assert of(shuffled).run() == RESULTS


def test_default_kwargs__are_those_that_a_row_leaves() -> None:
    assert of(ROWS).default_kwargs() == [{}, {}, {"xx": 1}, {"x": 0.5, "xx": 1}]


def test_steps__run_an_order_at_a_time_and_leave_the_definition() -> None:
    analysis = of(ROWS)
    version, steps = analysis.version, analysis.steps()
    assert steps.previous() == []
    assert [row.func_path for row in steps.peek()] == ["four.f"]
    assert steps.run_next() == {"a": 2}
    assert steps.run_next() == {"b": 6}
    assert [row.output_keys for row in steps.previous()] == [("b",)]
    assert steps.run_next() == {key: RESULTS[key] for key in ("c11", "c12", "c1", "c2")}
    assert steps.peek() == []
    with pytest.raises(AnalysisError, match="has run all 3 steps; reset it"):
        steps.run_next()
    steps.reset()
    assert steps.data == {}
    assert steps.run() == RESULTS
    assert analysis.version == version


def test_run_selected__runs_one_order_on_given_data() -> None:
    steps = of(ROWS).steps({"a": 1, "b": 2})
    assert steps.run_selected(2) == {"c11": 2.25, "c12": 3, "c1": 1.5, "c2": 3}
    assert steps.run_selected(2) == {"c11": 2.25, "c12": 3, "c1": 1.5, "c2": 3}
    with pytest.raises(InvalidAnalysis, match="no row has 7; there is 0, 1, 2"):
        steps.run_selected(7)
    with pytest.raises(InvalidAnalysis, match="nothing gives key 'b'"):
        of(ROWS).steps({"a": 1}).run_selected(2)


def test_store__lets_a_task_delete_a_key() -> None:
    rest = {key: value for key, value in RESULTS.items() if key != "c11"}
    assert of([*ROWS, [3, "four.delete", "__data__", {}, []]]).run() == rest
    for row in ([3, "four.f", [], {}, "__data__"], [0, "four.f", ["__data__", "__data__"], {}, "z"]):
        with pytest.raises(InvalidAnalysis):
            of([*ROWS, row]).run()
    with pytest.raises(InvalidAnalysis, match="__data__"):
        of(ROWS).run({"__data__": 1})


def test_failed_task__keeps_earlier_results() -> None:
    steps = of([*ROWS[:2], [2, "four.fail", "a", {}, "z"]]).steps()
    with pytest.raises(TaskFailed, match=r"row 3: four\.fail failed: RuntimeError: no luck with 2") as failed:
        steps.run()
    assert failed.value.results == steps.data == {"a": 2, "b": 6}
    assert steps.progress.states == {0: "done", 1: "done", 2: "failed"}
    assert [row.func_path for row in steps.peek()] == ["four.fail"]


def test_outputs__one_key_takes_the_value_and_several_need_as_many() -> None:
    assert of([*ROWS[:2], [2, "four.h", ["a", "b"], {}, "pair"]]).run()["pair"] == (4.0, 8)
    with pytest.raises(InvalidAnalysis, match=r"row 3, outputKeys: four\.h: expected=2, received=3"):
        of([*ROWS[:2], [2, "four.h", ["a", "b"], {}, ["p", "q", "r"]]]).run()
    with pytest.raises(InvalidAnalysis, match=r"row 1, outputKeys: four\.f: expected=1, received=2"):
        of([[0, "four.f", [], {}, ["p", "q"]]]).run()
    # Of functions that don't say how many results they return, it is seen when they have run.
    tasks = Tasks()
    tasks.task("t.two")(lambda: (1, 2))
    tasks.task("t.one")(lambda: 1)
    with pytest.raises(TaskFailed, match=r"3 output keys \(p, q, r\) and returned 2 values"):
        Analysis.create([[0, "t.two", [], {}, ["p", "q", "r"]]], tasks=tasks).run()
    with pytest.raises(TaskFailed, match=r"2 output keys \(p, q\) and returned one value"):
        Analysis.create([[0, "t.one", [], {}, ["p", "q"]]], tasks=tasks).run()


@pytest.mark.parametrize(
    ("annotation", "count"),
    [
        ("tuple[pl.DataFrame, pl.DataFrame]", 2),
        (tuple[int, float, str], 3),
        ("tuple[int, ...]", None),
        ("pl.DataFrame", 1),
        (float, 1),
        (None, 1),
        ("Any", None),
        (Any, None),
        (list, None),
        ("no type", None),
        (Signature.empty, None),
    ],
)
def test_result_count__is_what_the_annotation_says(annotation: object, count: int | None) -> None:
    assert result_count(Signature(return_annotation=annotation)) == count


def test_forms__have_the_same_version() -> None:
    analysis = of(ROWS)
    forms = [
        Analysis.from_rows(analysis.as_rows()),
        Analysis.from_frame(analysis.as_frame()),
        Analysis.from_json(analysis.as_json()),
        Analysis.from_yaml(analysis.as_yaml()),
        Analysis.from_json(json.dumps({"name": "other", "rows": ROWS})),
    ]
    assert {each.version for each in forms} == {analysis.version}
    assert forms[0].as_rows() == forms[1].as_rows() == forms[3].as_rows()
    assert list(analysis.as_frame().columns) == ["order", "funcPath", "inputKeys", "kwargs", "outputKeys"]
    changed = [*ROWS[:2], [2, "four.h", ["a", "b"], {"x": 0.76}, ["c11", "c12"]], ROWS[3]]
    assert of(changed).version != analysis.version
