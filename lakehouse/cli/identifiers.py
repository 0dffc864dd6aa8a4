"""`lakehouse resolve` and `crosswalk`: from one identifier to another."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.cli.explained import console, errors, explained
from lakehouse.cli.options import AsOfOption, day, moment
from lakehouse.cli.results import format_of, print_result

if TYPE_CHECKING:
    import polars as pl

    from lakehouse.domains.reference.resolution.resolve import Answer, Resolution

_AMBIGUOUS, _NONE = 3, 4
OnOption = Annotated[
    date | None,
    typer.Option("--on", parser=day, metavar="DATE", help="Day on which the answer is true; today by default."),
]
KnownOption = Annotated[
    datetime | None,
    typer.Option(
        "--known", parser=moment, metavar="TIMESTAMP", help="As of when its publishers had said so; now by default."
    ),
]


def resolve(
    value: Annotated[str, typer.Argument(help="An LEI, ISIN, FIGI, BIC, MIC or PermID, or a ticker as XNYS/IBM.")],
    mic: Annotated[
        str | None, typer.Option("--mic", metavar="MIC", help="Market of the listings that count, or of a ticker.")
    ] = None,
    on: OnOption = None,
    known: KnownOption = None,
    as_of: AsOfOption = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="KIND", help="Kind asked for: figi, lei, isin, bic, mic_ticker, ...")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the source, object, row and rule of each step.")
    ] = False,
) -> None:
    """Tell what an identifier stands for.

    Exits with 0 for one answer, 3 for several (all are listed), 4 for none, and 2 if it is invalid.
    """
    from lakehouse.api import Lake

    with explained():
        found = Lake.open(as_of=as_of).resolve(value, mic=mic, on=on, known=known, to=to)
    for answer in found.answers:
        _print(answer.value)
        for line in _explained(found, answer, mic) if explain else ():
            _print(f"  {line}")
    if found.status == "ambiguous":
        errors.print(f"{len(found.answers):,} answers: {value} alone doesn't say which", highlight=False, markup=False)
        raise typer.Exit(_AMBIGUOUS)
    if found.status == "none":
        where = f" on {mic}" if mic else ""
        errors.print(f"{value}: no {found.target} is known{where}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(_NONE)


def crosswalk(
    start: Annotated[str, typer.Option("--from", metavar="KIND", help="Kind of the identifiers, and their column.")],
    targets: Annotated[str, typer.Option("--to", metavar="KINDS", help="Kinds asked for, such as figi,lei.")],
    source: Annotated[Path, typer.Option("--input", help="CSV or Parquet file; a column mic has the rows' markets.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV, JSON or Parquet file to write.")],
    on: OnOption = None,
    known: KnownOption = None,
    as_of: AsOfOption = None,
) -> None:
    """Add other identifiers to a file, row by row, with a status: found, ambiguous, none or invalid."""
    import duckdb

    from lakehouse.api import Lake

    with explained():
        rows = Lake.open(as_of=as_of).crosswalk(_rows_of(source), start, targets.split(","), on=on, known=known)
        with duckdb.connect() as connection:
            connection.register("crosswalk", rows)
            print_result(console, connection.table("crosswalk"), format_of(output), output)
    counts = rows["status"].value_counts().sort("status").iter_rows()
    _print(f"{output}: " + (", ".join(f"{count:,} {status}" for status, count in counts) or "no rows"))


def _rows_of(path: Path) -> pl.DataFrame:
    """The rows of a CSV or Parquet file; a CSV's are texts, since identifiers may look like numbers.

    Raises:
        SourceError: it is neither.
    """
    import polars as pl

    from lakehouse.errors import SourceError

    try:
        if path.suffix.lower() == ".parquet":
            return pl.read_parquet(path)
        return pl.read_csv(path, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise SourceError(f"{path} can't be read: {error}. Name a CSV file with a header, or a Parquet file") from None


def _explained(found: Resolution, answer: Answer, mic: str | None) -> list[str]:
    """The steps to an answer: where each comes from, and the rule that it follows."""
    lines, near = [], (found.asked.scheme, found.asked.value)
    for step in answer.steps:
        own, subject = (step["scheme"], step["value"]), (step["subject_scheme"], step["subject"])
        far = subject if near == own else own
        rule = f"{own[0]} stands for {subject[0]}" + (f", listings on {mic}" if mic and far[0] == "figi" else "")
        if own[0] == subject[0] == "lei":
            rule = "its last successor, or itself"
        lines.append(
            f"{near[0]} {near[1]} -> {far[0]} {far[1]}: {step['source']}, {step['object']}, row {step['row_number']}; "
            f"valid from {step['valid_from']}, known from {step['known_from']:%Y-%m-%d %H:%M}; rule: {rule}"
        )
        near = far
    return lines or [f"{near[0]} {near[1]}: asked for itself"]


def _print(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)
