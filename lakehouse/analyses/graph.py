"""The graph of an analysis's tasks: as data, Mermaid, DOT and SVG. Tasks are marked as done, failed or next.

SVG is drawn by the program of the package graphviz-pure, which is installed beside Python.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lakehouse.analyses.spec import STORE, AnalysisError, Definition

_PROGRAM = "graphviz-pure"
_SECONDS = 60
_FILLS = {"done": "#d9f0e3", "failed": "#f7d4d0", "next": "#fdf1c9"}
_BORDERS = {"done": "#2f855a", "failed": "#c53030", "next": "#b7791f"}
_STYLE = """  graph [rankdir=LR, nodesep=0.2, ranksep=0.45, fontname="Helvetica", bgcolor="white", pad=0.2];
  node [shape=box, style="rounded,filled", fillcolor="white", color="#4a5568", fontname="Helvetica", fontsize=11,
        margin="0.12,0.06"];
  edge [color="#718096", fontname="Helvetica", fontsize=9, fontcolor="#4a5568", arrowsize=0.6];
"""


@dataclass(frozen=True)
class Node:
    """An input, or a task; `place` is that of its row."""

    name: str
    label: tuple[str, ...]
    place: int | None
    state: str = ""


@dataclass(frozen=True)
class Edge:
    """A key that goes from an input or a task to a task."""

    start: str
    end: str
    key: str


@dataclass(frozen=True)
class Graph:
    """The tasks and inputs, and the keys between them."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def as_dict(self) -> dict[str, list[str]]:
        """For each task, by its place from 1 and its function, those whose results it takes."""
        names = {node.name: " ".join(node.label[:1]) for node in self.nodes}
        return {
            names[node.name]: list(dict.fromkeys(names[edge.start] for edge in self.edges if edge.end == node.name))
            for node in self.nodes
            if node.place is not None
        }


def graph_of(definition: Definition, states: Mapping[int, str] | None = None) -> Graph:
    """The graph of a definition.

    Args:
        states: place of a row -> done, failed or next.
    """
    given = [key for key in definition.input_keys if key != STORE]
    nodes = [Node(f"i_{key}", (key,), None) for key in given]
    makers = {key: f"i_{key}" for key in given}
    edges = []
    for place, row in definition.in_order:
        name = f"t{place + 1}"
        label = (f"{place + 1} {row.func_path}", ", ".join(row.output_keys))
        nodes.append(Node(name, label, place, (states or {}).get(place, "")))
        edges += [Edge(makers[key], name, key) for key in dict.fromkeys(row.input_keys) if key in makers]
        makers |= dict.fromkeys(row.output_keys, name)
    return Graph(tuple(nodes), tuple(edges))


def as_mermaid(graph: Graph) -> str:
    """The graph as a Mermaid flowchart."""
    lines = ["flowchart LR"]
    for node in graph.nodes:
        label = "<br/>".join(_for_mermaid(part) for part in node.label if part)
        lines.append(f'  {node.name}["{label}"]' if node.place is not None else f'  {node.name}(["{label}"])')
    lines += [f"  {edge.start} -->{f'|{edge.key}|' if edge.key else ''} {edge.end}" for edge in graph.edges]
    for state, fill in _FILLS.items():
        if names := [node.name for node in graph.nodes if node.state == state]:
            lines.append(f"  classDef {state} fill:{fill},stroke:{_BORDERS[state]}")
            lines.append(f"  class {','.join(names)} {state}")
    return "\n".join(lines) + "\n"


def as_dot(graph: Graph) -> str:
    """The graph in Graphviz's language."""
    lines = ["digraph analysis {", _STYLE.rstrip("\n")]
    for node in graph.nodes:
        label = "\\n".join(_for_dot(part) for part in node.label if part)
        looks = f', fillcolor="{_FILLS[node.state]}", color="{_BORDERS[node.state]}"' if node.state in _FILLS else ""
        if node.state in _FILLS:
            label += f"\\n({node.state})"
        shape = ', shape=ellipse, style="filled", fillcolor="#edf2f7"' if node.place is None else ""
        lines.append(f'  {node.name} [label="{label}"{shape}{looks}];')
    lines += [f'  {edge.start} -> {edge.end} [label="{_for_dot(edge.key)}"];' for edge in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


def as_svg(graph: Graph) -> str:
    """The graph as an SVG drawing.

    Raises:
        AnalysisError: the program that draws it is missing, or fails.
    """
    try:
        drawn = subprocess.run(
            [_program(), "-Kdot", "-Tsvg"], input=as_dot(graph).encode(), capture_output=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise AnalysisError(f"the graph wasn't drawn within {_SECONDS} s; show it as mermaid") from None
    if drawn.returncode:
        raise AnalysisError(f"{_PROGRAM} can't draw the graph: {drawn.stderr.decode(errors='replace').strip()}")
    return drawn.stdout.decode()


def _program() -> Path:
    for folder in (Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))):
        if (found := folder / _PROGRAM).is_file():
            return found
    raise AnalysisError(f"{_PROGRAM} isn't installed beside {sys.executable}; install Lakehouse's requirements again")


def _for_dot(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _for_mermaid(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "#quot;")
    return escaped.replace("\n", " ")
