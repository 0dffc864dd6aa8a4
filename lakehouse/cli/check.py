"""`lakehouse check`: what is wrong with the YAML files, the environment, and the sources' newest objects, before
anything is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from lakehouse.cli.explained import console, explained
from lakehouse.cli.next_steps import try_next

if TYPE_CHECKING:
    from lakehouse.derive.source import Remark, Source
    from lakehouse.derive.source_check import DatasetReport, SourceReport
    from lakehouse.ingest.rehearsal import ReadObject

_SHOWN = 2
_REFUSED_SHOWN = 3
_CELL = 40
_STYLES = {"error": "bold red", "warning": "yellow", "hint": "bold", "note": "dim"}
_OF_LOAD = ("object", "object_version", "published_at", "ingested_at", "row_number")


def check(
    source: Annotated[str | None, typer.Argument(help="Name of the source; all by default.")] = None,
) -> None:
    """Check the YAML files and the sources before anything is loaded: exit 1 where something is wrong.

    Every defs.yaml is validated. Then each source's place is listed, and the first rows of its newest objects are shown
    as the lake would have them, with the refused ones and why. Nothing is loaded, and an API is not asked.
    """
    from lakehouse.catalog import descriptions, sources

    with explained():
        problems = _yaml_problems()
        for problem in problems:
            _say("error", problem)
        described = descriptions()
        if source is not None:
            if any(path.parent.name == source for path in described.broken):
                raise typer.Exit(1)
            described.require(source, "source", sources())
        is_sound = not problems
        for each in sources().values():
            if source is None or each.name == source:
                is_sound &= _check_source(each, described.files[each.name], only=source is not None)
        if is_sound and source is not None and sources()[source].is_updated:
            try_next(f"update {source}")
    if not is_sound:
        raise typer.Exit(1)


def _yaml_problems() -> list[str]:
    from lakehouse.catalog import analyses, faulty_files, faulty_reports
    from lakehouse.cli.explained import mark_as_printed
    from lakehouse.ingest.defs_yaml import InvalidYaml

    found: list[str] = []
    for error in [*faulty_files().values(), *analyses().broken.values(), *faulty_reports().values()]:
        mark_as_printed(error)
        found += error.problems if isinstance(error, InvalidYaml) else [str(error)]
    return found


def _check_source(source: Source, file: Path, *, only: bool) -> bool:
    """Prints what there is to say about a source; returns whether nothing is wrong.

    Args:
        only: it was named, so that a missing setting is an error.
    """
    from lakehouse.catalog import empty_lake
    from lakehouse.derive.source_check import check_source

    console.print(f"[bold]{source.name}[/] {escape(str(file))}", highlight=False, soft_wrap=True)
    if not only and (lacks := source.lacks()) is not None:
        _say("note", f"not set up: {lacks}")
        return True
    with empty_lake() as lake:
        report = check_source(lake, source)
    _show(report)
    return report.is_sound


def _show(report: SourceReport) -> None:
    for remark in report.remarks:
        _say(remark.kind, remark.text)
    for dataset in report.datasets:
        if len(report.datasets) > 1 or dataset.rehearsal is not None:
            console.print(f"  {dataset.dataset.name}{_in_short(dataset)}", highlight=False, soft_wrap=True)
        if dataset.rehearsal is not None:
            shown = next((each for each in dataset.rehearsal.read if each.rows is not None and each.rows.height), None)
            if shown is not None:
                _show_rows(shown, _columns(dataset))
            for each in dataset.rehearsal.read:
                if _show_refused(each):
                    break
        for remark in _sorted(dataset.remarks):
            _say(remark.kind, remark.text)
    if report.is_sound:
        has_warnings = any(remark.kind == "warning" for remark in report.all_remarks)
        console.print(f"  nothing is wrong{' that would stop a load' if has_warnings else ''}", highlight=False)


def _sorted(remarks: Any) -> list[Remark]:
    order = ("note", "warning", "error", "hint")
    return sorted(remarks, key=lambda remark: order.index(remark.kind))


def _in_short(report: DatasetReport) -> str:
    found = report.rehearsal
    if found is None:
        return ""
    received = sum(each.received for each in found.read)
    objects = f": {len(found.found):,} object{'' if len(found.found) == 1 else 's'}"
    return f"{objects}; {received:,} rows of the newest {len(found.read)} read" if found.read else objects


def _columns(report: DatasetReport) -> list[str]:
    """The columns that the source fills, in the contract's order."""
    assert report.rehearsal is not None
    rows = report.rehearsal.rows
    return [name for name in rows.columns if name not in _OF_LOAD and rows[name].null_count() < rows.height]


def _show_rows(read: ReadObject, columns: list[str]) -> None:
    """Prints the first accepted rows of an object, a column a line, since there are many columns."""
    assert read.rows is not None
    console.print(
        f"  the first rows of {escape(read.item.name)}, as the lake would have them:",
        highlight=False,
        soft_wrap=True,
    )
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    first = read.rows.head(_SHOWN).select(columns)
    for column in columns:
        values = [escape(_cell(value)) for value in first[column]]
        table.add_row("   ", column, f"[dim]{_type(first.schema[column])}[/]", *values)
    console.print(table, highlight=False)


def _type(kind: Any) -> str:
    text = str(kind)
    return {"String": "text", "Float64": "double", "Int64": "bigint", "Date": "date"}.get(
        text, "timestamp UTC" if text.startswith("Datetime") else text.lower()
    )


def _cell(value: object) -> str:
    from datetime import datetime

    text = f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else "" if value is None else str(value)
    return text if len(text) <= _CELL else f"{text[:_CELL]}..."


def _show_refused(read: ReadObject) -> bool:
    """Prints the first refused rows of an object; returns whether there are any."""
    if read.refused is None or not read.refused.height:
        return False
    console.print(f"  refused in {escape(read.item.name)}:", highlight=False, soft_wrap=True)
    for row in read.refused.head(_REFUSED_SHOWN).iter_rows(named=True):
        why = "; ".join(row["reasons"])
        console.print(f"    row {row['row_number']}: {escape(row['row'])}", highlight=False, soft_wrap=True)
        console.print(f"      {escape(why)}", highlight=False, soft_wrap=True)
    return True


def _say(kind: str, text: str) -> None:
    console.print(f"  [{_STYLES[kind]}]{kind}[/] {escape(text)}", highlight=False, soft_wrap=True)
