"""`lakehouse tables`, `describe` and `catalog`: which tables there are, what they mean, and what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.cli.explained import console, explained
from lakehouse.cli.results import Format, format_of, print_result

if TYPE_CHECKING:
    from rich.table import Table

    from lakehouse.governance.described import DescribedTable
    from lakehouse.governance.figures import Figures
    from lakehouse.lake.lake import Lake

OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Write to this CSV, JSON or Parquet file.")]


def tables(
    words: Annotated[
        list[str] | None, typer.Argument(help="Only tables with these words in their names, descriptions or columns.")
    ] = None,
    named_format: Annotated[
        Format | None,
        typer.Option("--format", help="Output format; by default from the output file's suffix, else a table."),
    ] = None,
    output: OutputOption = None,
) -> None:
    """List the tables, views and marts, with their rows, size and time of the last write."""
    from lakehouse.api import Lake
    from lakehouse.governance.catalogue import TABLES
    from lakehouse.governance.described import containing, described_tables
    from lakehouse.lake.sql import literal

    with explained():
        lake = Lake.open()
        found = [table.sql_name for table in containing(described_tables(lake), " ".join(words or ()))]
        names = ", ".join(literal(name) for name in found) or "NULL"
        rows = lake.sql(
            f"""
            SELECT schema_name || '.' || table_name AS "table", kind, rows, bytes, updated_at, owner, classification,
                split_part(description, '. ', 1) AS description
            FROM lake.{TABLES} WHERE schema_name || '.' || table_name IN ({names}) ORDER BY ALL
            """
        )
        print_result(console, rows, named_format or format_of(output), output)


def describe(
    name: Annotated[str, typer.Argument(help="Its name, such as xetra.daily_bars; the schema may be left out.")],
) -> None:
    """Describe a table: its columns, units, rules, partitions, size and freshness."""
    from lakehouse.api import Lake
    from lakehouse.governance.described import table_named
    from lakehouse.governance.figures import Figures, figures
    from lakehouse.governance.inherited import catalogued

    with explained():
        lake = Lake.open()
        table = table_named(catalogued(lake, lake.config), name)
        stored = figures(lake, [table]).get(table.sql_name, Figures())
        partitions = _partitions(lake, table) if stored.rows is not None and table.partition_by else None
    console.rule(f"[bold]{table.sql_name}", align="left")
    console.print(table.description, markup=False, highlight=False)
    console.print()
    console.print(_facts(table, stored, partitions))
    console.print()
    console.print(_columns(table))
    if table.rules:
        console.print()
        console.print(_rules(table))


def catalog(
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")] = Path("catalog.html"),
) -> None:
    """Write the catalogue as one HTML page, which finds a table or a column by a word and needs no network."""
    from lakehouse.api import Lake
    from lakehouse.governance.page import write_page

    with explained():
        lake = Lake.open()
        write_page(lake, lake.config, output)
    console.print(str(output), highlight=False, soft_wrap=True, markup=False)


def _partitions(lake: Lake, table: DescribedTable) -> str:
    snapshot = lake.table(table.path).snapshot()
    lines = []
    for column in table.partition_by:
        values = snapshot.partition_values(column)
        span = f", {values[0]} to {values[-1]}" if values else ""
        lines.append(f"{column}: {len(values):,}{span}")
    return "; ".join(lines)


def _facts(table: DescribedTable, stored: Figures, partitions: str | None) -> Table:
    from rich.markup import escape
    from rich.table import Table

    facts = {
        "kind": f"{table.kind} of {table.domain}" if table.domain else table.kind,
        "owner": table.owner,
        "classification": table.classification,
        "key": ", ".join(table.key),
        "partitions": partitions or ", ".join(table.partition_by),
        "rows": "" if stored.rows is None else f"{stored.rows:,}",
        "size": "" if stored.bytes is None else f"{stored.bytes:,} bytes",
        "written": "" if stored.updated_at is None else f"{stored.updated_at:%Y-%m-%d %H:%M:%S} UTC",
        "freshness": table.freshness,
    }
    shown = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    shown.add_column(style="bold")
    shown.add_column()
    for fact, text in facts.items():
        if text:
            shown.add_row(fact, escape(text))
    return shown


def _columns(table: DescribedTable) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from lakehouse.governance.described import DEFAULT_LEVEL

    shown = Table("column", "type", "unit", "description", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for column in table.columns:
        marks = [
            "key" if column.is_key else "",
            "" if column.nullable else "required",
            "personal" if column.pii else "",
            column.classification if column.classification != DEFAULT_LEVEL else "",
            f"refers to {column.references}" if column.references else "",
            f"format {column.format}" if column.format else "",
        ]
        said = ", ".join(filter(None, marks))
        text = f"{escape(column.description)} [dim]({escape(said)})[/]" if said else escape(column.description)
        shown.add_row(column.name, escape(column.type), escape(column.unit or ""), text)
    return shown


def _rules(table: DescribedTable) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    shown = Table("rule", "holds", "otherwise", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for name, holds, reason in table.rules:
        if not name.endswith("_present"):
            shown.add_row(escape(name), escape(holds or ""), escape(reason))
    return shown
