"""`lakehouse contract`: contracts in a standard's form for others, and what a new version of one breaks."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lakehouse.cli.explained import console, explained

contract_app = typer.Typer(
    name="contract", no_args_is_help=True, help="Contracts of tables: export them, compare versions of them."
)


class Standard(StrEnum):
    """The standards that contracts are exported in."""

    odcs = "odcs"


@contract_app.command()
def export(
    table: Annotated[str | None, typer.Argument(help="The table, such as xetra.daily_bars; all by default.")] = None,
    standard: Annotated[
        Standard, typer.Option("--format", help="odcs: Open Data Contract Standard 3.1, as YAML.")
    ] = Standard.odcs,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file for one table, a folder for all; by default, standard output."),
    ] = None,
) -> None:
    """Write the contract of a table, or of all tables, views and marts."""
    import sys

    from lakehouse.api import Lake
    from lakehouse.governance.described import described_tables, table_named
    from lakehouse.governance.odcs import file_name, odcs, odcs_text

    with explained():
        tables = described_tables(Lake.open())
        wanted = tables if table is None else [table_named(tables, table)]
        documents = {file_name(each): odcs(each) for each in wanted}
        if output is None:
            sys.stdout.write(odcs_text(documents.values()))
        elif table is not None:
            output.write_text(odcs_text(documents.values()), encoding="utf-8")
        else:
            output.mkdir(parents=True, exist_ok=True)
            for name, document in documents.items():
                (output / name).write_text(odcs_text([document]), encoding="utf-8")
            console.print(f"{len(documents)} contracts in {output}", highlight=False, markup=False, soft_wrap=True)
