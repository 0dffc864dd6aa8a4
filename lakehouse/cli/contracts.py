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
    from lakehouse.governance.graph import whole_lineage
    from lakehouse.governance.inherited import exported
    from lakehouse.governance.odcs import file_name, odcs_text

    with explained():
        lake = Lake.open()
        tables = described_tables(lake)
        wanted = tables if table is None else [table_named(tables, table)]
        found = exported(tables, whole_lineage(tables, lake.config))
        documents = {file_name(each): found[each.sql_name] for each in wanted}
        if output is None:
            sys.stdout.write(odcs_text(documents.values()))
        elif table is not None:
            output.write_text(odcs_text(documents.values()), encoding="utf-8")
        else:
            output.mkdir(parents=True, exist_ok=True)
            for name, document in documents.items():
                (output / name).write_text(odcs_text([document]), encoding="utf-8")
            console.print(f"{len(documents)} contracts in {output}", highlight=False, markup=False, soft_wrap=True)


@contract_app.command()
def diff(
    old: Annotated[Path, typer.Argument(help="An exported contract, or a folder of them.")],
    new: Annotated[Path | None, typer.Argument(help="A later export; by default, the present contracts.")] = None,
) -> None:
    """Tell what differs between two versions of contracts, and what breaks whom. Exits with 1 if something breaks."""
    from lakehouse.api import Lake
    from lakehouse.governance.contract_differences import broken_by, differences, read_documents
    from lakehouse.governance.described import described_tables
    from lakehouse.governance.graph import whole_lineage
    from lakehouse.governance.inherited import exported

    with explained():
        lake = Lake.open()
        tables, before = described_tables(lake), read_documents(old)
        lineage = whole_lineage(tables, lake.config)
        if new is not None:
            after = read_documents(new)
        else:
            # One file is compared with its own tables, a folder with all.
            now = exported(tables, lineage)
            after = {name: document for name, document in now.items() if old.is_dir() or name in before}
        found = differences(before, after)
        breaking = [each for each in found if each.breaks]
        for each in found:
            console.print(
                f"{'BREAKS ' if each.breaks else 'changes'} {each}", highlight=False, markup=False, soft_wrap=True
            )
            if each.breaks:
                for column in broken_by(each, before, lineage):
                    console.print(f"          {column}", highlight=False, markup=False, soft_wrap=True)
    if not found:
        console.print("The contracts are the same.")
    if breaking:
        raise typer.Exit(1)
