"""`lakehouse analyses`: list, check, run and show analyses, and hand them over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from lakehouse.cli.explained import console, explained
from lakehouse.cli.options import AsOfOption
from lakehouse.cli.results import Format, format_of, print_result
from lakehouse.printable import printable

if TYPE_CHECKING:
    from datetime import datetime

    from lakehouse.analyses.service import Analyses, Finished
    from lakehouse.analyses.spec import Definition

analyses_app = typer.Typer(
    name="analyses", no_args_is_help=True, help="Analyses as tables of tasks: check, run, show and hand them over."
)
NameArgument = Annotated[str, typer.Argument(help="Name of the analysis, or name@version.")]
FileArgument = Annotated[Path, typer.Argument(help="The file to read.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Value of an input; can be repeated. JSON, or else text."),
]
SecondsOption = Annotated[float, typer.Option(min=0.1, help="End the run after this time.")]
MegabytesOption = Annotated[int, typer.Option(min=16, help="End the run when it takes more memory.")]


@analyses_app.command("list")
def list_analyses() -> None:
    """List the analyses: those of defs.yaml files, and those in the lake."""
    with explained():
        known = _analyses()
        table = Table("name", "version", "tasks", "inputs", "from", "description", box=None)
        for each in known.all():
            origin = "defs.yaml" if each.name in known.described else each.imported_from or "lake"
            inputs = ", ".join(each.input_keys)
            table.add_row(each.name, each.version[:12], str(len(each.rows)), inputs, origin, each.description)
        console.print(table)


@analyses_app.command()
def functions() -> None:
    """List the functions that rows may name."""
    with explained():
        table = Table("function", "arguments", "what it does", box=None)
        for task in sorted(_analyses().registry, key=str):
            names = ", ".join(str(each).partition(":")[0] for each in task.signature.parameters.values())
            table.add_row(str(task), names, task.summary)
        console.print(table)


@analyses_app.command()
def show(name: NameArgument) -> None:
    """Show an analysis as a table of its tasks."""
    with explained():
        _print_rows(_analyses().get(name))


@analyses_app.command()
def check(file: FileArgument) -> None:
    """List all faults of an analysis in a JSON or YAML file; runs nothing."""
    from lakehouse.analyses.spec import InvalidAnalysis
    from lakehouse.analyses.validation import validate

    with explained():
        known = _analyses()
        definition = _definition_in(file)
        given = {*definition.inputs} or {*definition.input_keys}
        if faults := validate(definition, known.registry, given):
            raise InvalidAnalysis(definition.name, faults)
        _say(f"{definition.name} has no faults: {len(definition.rows)} tasks, version {definition.version}")


@analyses_app.command()
def run(
    name: NameArgument,
    values: SetOption = None,
    as_of: AsOfOption = None,
    seconds: SecondsOption = 300,
    megabytes: MegabytesOption = 2048,
) -> None:
    """Run an analysis, store its results, and show their figures."""
    from lakehouse.analyses.limited import Limits

    with explained():
        finished = _analyses(as_of).run(name, _inputs(values), limits=Limits(seconds, megabytes))
        _print_outputs(finished)


@analyses_app.command()
def results(
    name: NameArgument,
    key: Annotated[str, typer.Argument(help="Output key.")],
    output_format: Annotated[Format | None, typer.Option("--format", help="How to print the rows.")] = None,
    run_id: Annotated[str | None, typer.Option("--run", help="The run; the newest successful one by default.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
) -> None:
    """Print the stored rows of an output key: date and value."""
    import duckdb

    with explained():
        found = _analyses().results(name, key, run_id)
        columns = ['"date"', '"value"']
        if found["fields"].null_count() < found.height:
            columns.append("fields")
        elif found["value"].null_count() == found.height and found["date"].null_count() == 0:
            columns[1] = '"date" AS "value"'
        elif found["date"].null_count() == found.height and found.height == 1:
            columns = ['"value"']
        # DuckDB takes Arrow's tables as they are; Polars' own need pyarrow's datasets.
        rows = found.to_arrow()
        with duckdb.connect() as connection:
            connection.register("rows", rows)
            relation = connection.sql(f"SELECT {', '.join(columns)} FROM rows ORDER BY position")
            print_result(console, relation, output_format or format_of(output), output)


def _analyses(as_of: datetime | None = None) -> Analyses:
    from lakehouse.api import Lake

    return Lake.present(as_of=as_of).analyses


def _definition_in(file: Path) -> Definition:
    from lakehouse.analyses.reading import MAX_BYTES, definition_in
    from lakehouse.analyses.spec import AnalysisError

    try:
        with file.open(encoding="utf-8") as opened:
            # One character more than is read tells that it is too long.
            text = opened.read(MAX_BYTES + 1)
    except UnicodeDecodeError as error:
        raise AnalysisError(f"{file} is no text in UTF-8: {error.reason}") from error
    return definition_in(_name_of(file), text)


def _name_of(file: Path) -> str:
    name = "".join(each if each.isalnum() and each.isascii() else "_" for each in file.name.partition(".")[0].lower())
    return name if name[:1].isalpha() else f"analysis_{name}"


def _inputs(values: list[str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in values or ():
        key, is_given, value = text.partition("=")
        if not is_given or not key:
            raise typer.BadParameter(f"'{text}' sets nothing; write it as ticker=JPM")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def _print_rows(definition: Definition) -> None:
    _say(f"{definition.name}, version {definition.version}")
    if definition.description:
        _say(definition.description)
    if definition.inputs:
        _say("inputs: " + ", ".join(f"{key}={value}" for key, value in definition.inputs.items()))
    table = Table("row", "order", "funcPath", "inputKeys", "kwargs", "outputKeys", box=None)
    for number, row in enumerate(definition.rows, start=1):
        kwargs = json.dumps(dict(row.kwargs), ensure_ascii=False) if row.kwargs else ""
        cells = (str(number), str(row.order), row.func_path, ", ".join(row.input_keys), kwargs)
        table.add_row(*map(printable, (*cells, ", ".join(row.output_keys))))
    console.print(table)


def _print_outputs(finished: Finished) -> None:
    run = finished.run
    table = Table("key", "kind", "figures", "fingerprint", box=None)
    for key, about in run.outputs.items():
        shown = ", ".join(f"{name} {_short(value)}" for name, value in about["figures"].items())
        table.add_row(key, about["kind"], printable(shown), about["fingerprint"][:12])
    console.print(table)
    _say(f"run {run.run_id} of {run.name} took {run.seconds:.1f} s; result {str(run.result_id)[:12]}")


def _short(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _say(text: str) -> None:
    console.print(printable(text), highlight=False, markup=False, soft_wrap=True)
