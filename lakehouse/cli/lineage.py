"""`lakehouse lineage`: what a column is made from, what is made from it, and the raw rows behind a row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.cli.explained import console, errors, explained, print_error
from lakehouse.cli.results import Format, format_of, print_result

if TYPE_CHECKING:
    from rich.tree import Tree

    from lakehouse.governance.lineage import Branch
    from lakehouse.governance.row_lineage import Rows


def lineage(
    name: Annotated[
        str, typer.Argument(help="A column, such as marts.fct_daily_bar.close; with --where, a table or mart.")
    ],
    upwards: Annotated[
        bool, typer.Option("--up/--down", help="What it is made from (default), or what is made from it.")
    ] = True,
    where: Annotated[
        str | None, typer.Option("--where", help="Rows of the table, as a condition in SQL: the raw rows behind them.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="With --where: follow at most so many rows.")] = 100,
    named_format: Annotated[
        Format | None, typer.Option("--format", help="table (a tree for a column), json; rows as csv or parquet too.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="With --where: a file for the rows.")] = None,
) -> None:
    """Show what a column is made from, back to the fields of objects, or the raw rows behind a row."""
    if where is None:
        _of_column(name, upwards, named_format or Format.table)
    else:
        _of_rows(name, where, limit, named_format or format_of(output), output)


def _of_column(name: str, upwards: bool, output_format: Format) -> None:
    from lakehouse.api import Lake
    from lakehouse.governance.described import described_tables
    from lakehouse.governance.graph import whole_lineage
    from lakehouse.governance.lineage import tree

    if output_format not in (Format.table, Format.json):
        raise typer.BadParameter("the lineage of a column is shown as a table (a tree) or json")
    with explained():
        lake = Lake.open()
        known = whole_lineage(described_tables(lake), lake.config)
        found = tree(known, known.column(name), upwards=upwards)
    if output_format is Format.json:
        console.print(json.dumps(found.as_json(), indent=2), highlight=False, markup=False, soft_wrap=True)
    else:
        console.print(_tree(found), highlight=False)


def _tree(branch: Branch, inside: Tree | None = None) -> Tree:
    from rich.markup import escape
    from rich.tree import Tree

    label = f"[bold]{escape(branch.column.column)}[/] of {escape(branch.column.table)}"
    if branch.seen:
        label += " [dim](see above)[/]"
    made = Tree(label) if inside is None else inside.add(label)
    for each in branch.branches:
        _tree(each, made)
    return made


def _of_rows(name: str, where: str, limit: int, output_format: Format, output: Path | None) -> None:
    import duckdb

    from lakehouse.api import Lake
    from lakehouse.governance.described import described_tables, table_named
    from lakehouse.governance.graph import whole_lineage
    from lakehouse.governance.row_lineage import raw_relation, rows_behind

    with explained():
        lake = Lake.open()
        tables = described_tables(lake)
        table = table_named(tables, name)
        try:
            found = rows_behind(lake, whole_lineage(tables, lake.config), tables, table, where, limit)
        except duckdb.Error as error:
            print_error(error)
            raise typer.Exit(2) from None
        _summarize(found, limit)
        print_result(console, raw_relation(found), output_format, output)


def _summarize(found: list[Rows], limit: int) -> None:
    """Tells on standard error how many rows of each table are behind the rows."""
    for rows in found:
        objects = {row["object"] for row in rows.raw_rows() if row["object"]} if rows.is_raw else set()
        end = f" in {len(objects):,} {'object' if len(objects) == 1 else 'objects'}" if objects else ""
        about = "" if rows.is_exact else ", some of which may belong to other rows"
        cut = f" (the first {limit:,})" if rows.level == 0 and len(rows.values) == limit else ""
        count = f"{len(rows.values):,} {'row' if len(rows.values) == 1 else 'rows'}"
        errors.print(f"{'  ' * rows.level}{rows.table}: {count}{end}{about}{cut}", highlight=False, markup=False)
