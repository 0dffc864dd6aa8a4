"""Shows analyses and their results: as tables, graphs, charts and rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Column, Table
from rich.text import Text

from lakehouse.cli.explained import console
from lakehouse.cli.render import SafeConsole
from lakehouse.cli.results import Format, format_of, print_result
from lakehouse.printable import printable

if TYPE_CHECKING:
    import polars as pl

    from lakehouse.analyses.spec import Definition
    from lakehouse.analyses.store import Run


_WIDEST = 100_000
"""Characters of a line that isn't folded."""


class View(StrEnum):
    """How an analysis is shown."""

    table = "table"
    dag = "dag"
    mermaid = "mermaid"
    svg = "svg"


def show_analysis(definition: Definition, view: View, states: Mapping[int, str], output: Path | None) -> None:
    """Shows an analysis on the console, or in a file."""
    from lakehouse.analyses.graph import as_mermaid, as_svg, graph_of

    graph = graph_of(definition, states)
    if view is View.table and output is None:
        _print_rows(definition, states)
        return
    text = {
        View.table: definition.as_yaml,
        View.dag: lambda: "".join(
            f"{name} <- {', '.join(inputs) or '(nothing)'}\n" for name, inputs in graph.as_dict().items()
        ),
        View.mermaid: lambda: as_mermaid(graph),
        View.svg: lambda: as_svg(graph),
    }[view]()
    if output is None:
        say(text.rstrip("\n"))
    else:
        output.write_text(text, encoding="utf-8")


def draw(rows: pl.DataFrame, output: Path) -> None:
    from lakehouse.analyses import AnalysisError
    from lakehouse.analyses.drawing import write
    from lakehouse.analyses.store import chart_of

    if rows["fields"].null_count():
        raise AnalysisError("only a chart can be drawn; write the rows to a .csv, .json or .parquet file")
    write(chart_of(rows), output)


def print_frame(frame: pl.DataFrame, columns: str, output_format: Format | None, output: Path | None) -> None:
    import duckdb

    # DuckDB takes Arrow's tables as they are; Polars' own need pyarrow's datasets.
    rows = frame.to_arrow()
    with duckdb.connect() as connection:
        connection.register("rows", rows)
        print_result(console, connection.sql(f"SELECT {columns} FROM rows"), output_format or format_of(output), output)


def _print_rows(definition: Definition, states: Mapping[int, str]) -> None:
    from lakehouse.analyses.spec import COLUMNS

    say(f"{definition.name}, version {definition.version}")
    if definition.description:
        say(definition.description)
    if definition.inputs:
        say("inputs: " + ", ".join(f"{key}={value}" for key, value in definition.inputs.items()))
    table = new_table("row", "order", *COLUMNS[1:], *(["state"] if states else []))
    for number, row in enumerate(definition.rows, start=1):
        kwargs = json.dumps(dict(row.kwargs), ensure_ascii=False) if row.kwargs else ""
        cells = (str(number), str(row.order), row.func_path, ", ".join(row.input_keys), kwargs)
        state = [states.get(number - 1, "")] if states else []
        add_row(table, *cells, ", ".join(row.output_keys), *state)
    print_table(table)


def print_outputs(run: Run) -> None:
    table = new_table("key", "kind", "figures", "fingerprint")
    for key, about in run.outputs.items():
        shown = ", ".join(f"{name} {_short(value)}" for name, value in about["figures"].items())
        add_row(table, key, about["kind"], shown, about["fingerprint"][:12])
    print_table(table)


def _short(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def new_table(*titles: str) -> Table:
    """A table whose cells are folded, rather than cut, where a terminal is narrow."""
    return Table(*(Column(title, overflow="fold") for title in titles), box=None)


def add_row(table: Table, *cells: object) -> None:
    """Adds a row of texts, which may be anybody's: neither markup nor control characters."""
    table.add_row(*(Text(printable(str(cell))) for cell in cells))


def print_table(table: Table) -> None:
    """Prints a table; to a pipe or file as wide as it is."""
    (console if console.is_terminal else SafeConsole(width=_WIDEST)).print(table)


def say(text: str) -> None:
    console.print(printable(text, keep="\n"), highlight=False, markup=False, soft_wrap=True)
