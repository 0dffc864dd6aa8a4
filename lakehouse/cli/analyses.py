"""`lakehouse analyses`: list, check, run and show analyses, and hand them over."""

from __future__ import annotations

import json
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli.analysis_views import (
    View,
    add_row,
    draw,
    new_table,
    print_frame,
    print_outputs,
    print_table,
    say,
    show_analysis,
)
from lakehouse.cli.explained import explained
from lakehouse.cli.options import AsOfOption
from lakehouse.cli.results import Format

if TYPE_CHECKING:
    from datetime import datetime

    from lakehouse.analyses.service import Analyses
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
        table = new_table("name", "version", "tasks", "inputs", "from", "description")
        for each in known.all():
            origin = "defs.yaml" if known.described.get(each.name) == each else each.imported_from or "lake"
            inputs = ", ".join(each.input_keys)
            add_row(table, each.name, each.version[:12], str(len(each.rows)), inputs, origin, each.description)
        print_table(table)


@analyses_app.command()
def functions() -> None:
    """List the functions that rows may name."""
    with explained():
        table = new_table("function", "arguments", "what it does")
        for task in sorted(_analyses().registry, key=str):
            names = ", ".join(str(each).partition(":")[0] for each in task.signature.parameters.values())
            add_row(table, str(task), names, task.summary)
        print_table(table)


ViewOption = Annotated[View, typer.Option("--as", help="How to show it.")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")]


@analyses_app.command()
def show(name: NameArgument, view: ViewOption = View.table, output: OutputOption = None) -> None:
    """Show an analysis as a table of its tasks, or as their graph."""
    with explained():
        show_analysis(_analyses().get(name), view, {}, output)


@analyses_app.command()
def step(
    name: NameArgument,
    values: SetOption = None,
    until: Annotated[int | None, typer.Option("--until", help="The last order to run; the first by default.")] = None,
    view: ViewOption = View.table,
    output: OutputOption = None,
    as_of: AsOfOption = None,
    seconds: SecondsOption = 300,
    megabytes: MegabytesOption = 2048,
) -> None:
    """Run an analysis up to an order, store nothing, and show which tasks are done, failed and next."""
    from lakehouse.analyses import AnalysisError
    from lakehouse.analyses.limited import Limits

    with explained():
        known = _analyses(as_of)
        definition = known.get(name)
        first = definition.in_order[0][1].order
        limits = Limits(seconds, megabytes)
        stepped, _ = known.step(name, _inputs(values), until=first if until is None else until, limits=limits)
        states = {place: str(step["state"]) for place, step in enumerate(stepped.steps) if step["state"] != "waiting"}
        show_analysis(definition, view, states, output)
        if output is None and view is View.table:
            print_outputs(stepped)
        if stepped.error is not None:
            raise AnalysisError(stepped.error)


@analyses_app.command()
def check(file: FileArgument, values: SetOption = None) -> None:
    """List all faults of an analysis in a JSON or YAML file; runs nothing."""
    from lakehouse.analyses import InvalidAnalysis
    from lakehouse.analyses.validation import validate

    with explained():
        known = _analyses()
        definition = _definition_in(file)
        if faults := validate(definition, known.registry, {*definition.inputs, *_inputs(values)}):
            raise InvalidAnalysis.of(definition.name, faults)
        say(f"{definition.name} has no faults: {len(definition.rows)} tasks, version {definition.version}")


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
        print_outputs(finished.run)
        say(f"run {finished.run.run_id} of {finished.run.name} took {finished.run.seconds:.1f} s")


@analyses_app.command()
def results(
    name: NameArgument,
    key: Annotated[str, typer.Argument(help="Output key.")],
    output_format: Annotated[Format | None, typer.Option("--format", help="How to print the rows.")] = None,
    run_id: Annotated[str | None, typer.Option("--run", help="The run; the newest successful one by default.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
) -> None:
    """Print the stored rows of an output key: date and value; or draw those of a chart (-o FILE.png or FILE.svg)."""
    with explained():
        found = _analyses().results(name, key, run_id)
        if output is not None and output.suffix.lower() in (".png", ".svg"):
            draw(found, output)
            return
        columns = ['"date"', '"value"']
        if found["fields"].null_count() < found.height:
            columns.append("fields")
        elif found["value"].null_count() == found.height and found["date"].null_count() == 0:
            columns[1] = '"date" AS "value"'
        elif found["date"].null_count() == found.height and found.height == 1:
            columns = ['"value"']
        print_frame(found, ", ".join(columns), output_format, output)


@analyses_app.command()
def sweep(
    name: NameArgument,
    over: Annotated[
        list[str],
        typer.Option(
            "--over", metavar="WHAT=VALUE,VALUE", help="Values of an input (ticker) or a keyword (longSMA.window)."
        ),
    ],
    values: SetOption = None,
    output_format: Annotated[Format | None, typer.Option("--format", help="How to print the rows.")] = None,
    output: OutputOption = None,
    as_of: AsOfOption = None,
    seconds: SecondsOption = 300,
    megabytes: MegabytesOption = 2048,
) -> None:
    """Run an analysis for all combinations of tickers or other values, store nothing, and compare the numbers."""
    import polars as pl

    from lakehouse.analyses.limited import Limits

    chosen = {key: [_value(each) for each in text.split(",")] for key, text in map(_assigned, over)}
    with explained():
        limits = Limits(seconds, megabytes)
        rows = _analyses(as_of).sweep(name, chosen, _inputs(values), limits=limits)
        frame = pl.DataFrame(rows, infer_schema_length=None)
        if frame["error"].null_count() == frame.height:
            frame = frame.drop("error")
        print_frame(frame, "*", output_format, output)


@analyses_app.command("look-ahead")
def look_ahead(
    name: NameArgument,
    values: SetOption = None,
    as_of: AsOfOption = None,
    seconds: SecondsOption = 300,
    megabytes: MegabytesOption = 2048,
) -> None:
    """Check that no value depends on later data, and no position on the prices of its own day."""
    from lakehouse.analyses.limited import Limits

    with explained():
        found = _analyses(as_of).look_ahead(name, _inputs(values), limits=Limits(seconds, megabytes))
        for line in found or [f"{name} doesn't look ahead"]:
            say(line)
    if found:
        raise typer.Exit(1)


@analyses_app.command()
def diff(
    one: Annotated[str, typer.Argument(help="Name or name@version of an analysis, or a file.")],
    other: Annotated[str, typer.Argument(help="Another one.")],
) -> None:
    """List the rows in which two analyses differ."""
    with explained():
        known = _analyses()
        first, second = (_named_or_in(known, each) for each in (one, other))
        rows = [each.as_rows() for each in (first, second)]
        lines = []
        for number, (left, right) in enumerate(zip_longest(*rows), start=1):
            if left is None or right is None:
                lines.append(f"row {number}: only in {one if right is None else other}: {json.dumps(left or right)}")
                continue
            for column in left:
                if left[column] != right[column]:
                    lines.append(f"row {number}, {column}: {json.dumps(left[column])} -> {json.dumps(right[column])}")
        for line in lines or [f"the rows are equal: version {first.version}"]:
            say(line)


@analyses_app.command()
def export(
    name: NameArgument, output: Annotated[Path, typer.Option("--output", "-o", help="The bundle to write.")]
) -> None:
    """Write a bundle to hand over: the rows, and the fingerprints of the newest run, which the recipient verifies."""
    with explained():
        text = _analyses().export(name)
        output.write_text(text, encoding="utf-8")
        say(f"wrote {output}; the recipient runs `lakehouse analyses verify {output.name}`")


@analyses_app.command("import")
def import_analysis(file: FileArgument) -> None:
    """Store the analysis of a bundle, or of a JSON or YAML file with rows, in the lake."""
    from dataclasses import replace

    with explained():
        definition = replace(_definition_in(file), imported_from=file.name)
        is_new = _analyses().add(definition)
        state = "imported" if is_new else "the lake has it already:"
        say(f"{state} {definition.name}, version {definition.version}")
        say(f"run it by `lakehouse analyses run {definition.name}@{definition.version[:12]}`")


@analyses_app.command()
def verify(
    file: FileArgument, as_of: AsOfOption = None, seconds: SecondsOption = 300, megabytes: MegabytesOption = 2048
) -> None:
    """Run a bundle's analysis on this lake, store nothing, and say what differs from the sender's run."""
    from lakehouse.analyses.limited import Limits

    with explained():
        found = _analyses(as_of).verify(_text_of(file), limits=Limits(seconds, megabytes))
        for difference in found.differences:
            say(difference)
        say(str(found))
    if not found.is_equal:
        raise typer.Exit(1)


def _analyses(as_of: datetime | None = None) -> Analyses:
    from lakehouse.api import Lake

    return Lake.present(as_of=as_of).analyses


def _text_of(file: Path) -> str:
    from lakehouse.analyses import AnalysisError
    from lakehouse.analyses.reading import MAX_BYTES

    try:
        with file.open(encoding="utf-8") as opened:
            # One character more than is read tells that it is too long.
            return opened.read(MAX_BYTES + 1)
    except UnicodeDecodeError as error:
        raise AnalysisError(f"{file} is no text in UTF-8: {error.reason}") from error
    except FileNotFoundError:
        raise AnalysisError(f"there is no file {file}; correct its name") from None


def _definition_in(file: Path) -> Definition:
    from lakehouse.analyses.reading import definition_in

    return definition_in(_name_of(file), _text_of(file))


def _name_of(file: Path) -> str:
    name = "".join(each if each.isalnum() and each.isascii() else "_" for each in file.name.partition(".")[0].lower())
    return name if name[:1].isalpha() else f"analysis_{name}"


def _named_or_in(known: Analyses, text: str) -> Definition:
    return _definition_in(Path(text)) if Path(text).is_file() else known.get(text)


def _inputs(values: list[str] | None) -> dict[str, Any]:
    return {key: _value(text) for key, text in map(_assigned, values or ())}


def _assigned(text: str) -> tuple[str, str]:
    key, is_given, value = text.partition("=")
    if not is_given or not key:
        raise typer.BadParameter(f"'{text}' sets nothing; write it as ticker=JPM")
    return key, value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
