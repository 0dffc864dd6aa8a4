"""`lakehouse sources`: the sources that `defs.yaml` files describe, and what each needs before it can be loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.markup import escape

from lakehouse.cli.explained import console, explained
from lakehouse.cli.results import Format, format_of, print_result
from lakehouse.errors import LakehouseError

if TYPE_CHECKING:
    from lakehouse.derive.source import Source


class ListedSource(NamedTuple):
    """A line of the list. `next` is what the source lacks, or the command that takes it in."""

    source: str
    kind: str
    state: str
    next: str
    description: str
    file: str


def sources(
    named_format: Annotated[
        Format | None,
        typer.Option("--format", help="Output format; by default from the output file's suffix, else a table."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this CSV, JSON or Parquet file.")
    ] = None,
) -> None:
    """List the sources: which are loaded, and what each lacks, or the command that takes it in."""
    import duckdb
    import polars as pl

    with explained():
        found, output_format = listed_sources(), named_format or format_of(output)
        if output_format is Format.table and output is None:
            _print_table(found)
            return
        frame = pl.DataFrame(found, schema=dict.fromkeys(ListedSource._fields, pl.String), orient="row")
        with duckdb.connect() as connection:
            print_result(console, connection.from_arrow(frame.to_arrow()), output_format, output)


def listed_sources() -> list[ListedSource]:
    """Every source that can be read, by name."""
    from lakehouse.api import Lake
    from lakehouse.catalog import descriptions
    from lakehouse.catalog import sources as described

    stored, files = {*Lake.open().sources()}, descriptions().files
    rows = []
    for name, source in sorted(described().items()):
        lacking = _lacking(source, name in stored)
        state = "loaded" if name in stored else "not set up" if lacking else "ready"
        following = lacking or f"lakehouse {taken_in_by(source)}"
        rows.append(ListedSource(name, source.kind, state, following, source.description.strip(), str(files[name])))
    return rows


def _lacking(source: Source, is_stored: bool) -> str | None:
    try:
        # Asking a captured database starts its server, which isn't worth it for one that has been captured.
        return None if is_stored and not source.datasets else source.lacks()
    except LakehouseError as error:
        return str(error)


def taken_in_by(source: Source) -> str:
    """The arguments of the command that takes in a source's rows."""
    return f"update {source.name}" if source.datasets else source.taken_in_by


def _print_table(found: list[ListedSource]) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("source", "kind", "state", "next"):
        table.add_column(title, no_wrap=title != "next")
    for line in found:
        table.add_row(f"[bold]{escape(line.source)}[/]", line.kind, line.state, escape(line.next))
    console.print(table)
