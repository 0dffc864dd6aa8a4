"""The graph of an analysis: as data, Mermaid and SVG, with tasks that are done, failed and next."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from assets_tests.support.four_tasks import ROWS
from lakehouse.analyses.graph import as_dot, as_mermaid, as_svg, graph_of
from lakehouse.analyses.spec import Definition, definition_of

SVG = "{http://www.w3.org/2000/svg}"


def of_forty() -> Definition:
    first = [0, "series.load", ["ticker", "day"], {}, "k0"]
    others = [
        [1 + number // 4, "ta.sma", f"k{max(0, number - 3)}", {"window": 5}, f"k{number}"] for number in range(1, 40)
    ]
    return definition_of("forty", [first, *others])


def test_graph__has_the_tasks_and_the_keys_between_them() -> None:
    graph = graph_of(definition_of("four", ROWS))
    assert graph.as_dict() == {
        "1 four.f": [],
        "2 four.g": ["1 four.f"],
        "3 four.h": ["1 four.f", "2 four.g"],
        "4 four.h": ["1 four.f", "2 four.g"],
    }
    assert "  t1 -->|a| t2\n" in as_mermaid(graph)


def test_svg__shows_every_task_of_forty_apart_and_its_state() -> None:
    states = {0: "done", 1: "done", 2: "failed", 3: "next"}
    drawing = ElementTree.fromstring(as_svg(graph_of(of_forty(), states)))
    nodes = [group for group in drawing.iter(f"{SVG}g") if group.get("class") == "node"]
    edges = [group for group in drawing.iter(f"{SVG}g") if group.get("class") == "edge"]
    assert (len(nodes), len(edges)) == (42, 41)
    texts = [text.text for text in drawing.iter(f"{SVG}text")]
    assert [texts.count(state) for state in ("(done)", "(failed)", "(next)")] == [2, 1, 1]
    # Labels are as large as they are written, and none lies on another.
    places = [(text.get("x"), text.get("y")) for text in drawing.iter(f"{SVG}text")]
    assert len(places) == len(set(places))
    sizes = {float(str(text.get("font-size"))) for text in drawing.iter(f"{SVG}text")}
    assert min(sizes) >= 9


def test_texts__of_rows_stay_texts() -> None:
    graph = graph_of(definition_of("odd", [[0, 'a"]; x [label="<b>', [], {}, "z"]]))
    assert r'label="1 a\"]; x [label=\"<b>\nz"' in as_dot(graph)
    assert re.search(r't1\["1 a#quot;\]; x \[label=#quot;&lt;b&gt;<br/>z"\]', as_mermaid(graph))
    assert "<b>" not in as_svg(graph)
