"""`lakehouse judgements`: proposals about which legal entity a name stands for, and a person's decisions."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated, Literal

import typer

from lakehouse.cli.explained import console, explained
from lakehouse.cli.options import AsOfOption
from lakehouse.cli.results import format_of, print_result

judgements_app = typer.Typer(
    name="judgements", help="Names that may stand for a legal entity: list, confirm, reject.", no_args_is_help=True
)
_SOURCE = "judgements"
Kind = Annotated[str, typer.Argument(help="Kind of the identifier: permid, mic, ...")]
Value = Annotated[str, typer.Argument(help="The identifier.")]
Lei = Annotated[str, typer.Argument(help="LEI of the entity that it was proposed to stand for.")]
By = Annotated[str | None, typer.Option("--by", help="Who decides; by default the user of this computer.")]


@judgements_app.command("list")
def list_judgements(
    everything: Annotated[bool, typer.Option("--all", help="Also those that were decided.")] = False,
    as_of: AsOfOption = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="CSV, JSON or Parquet file to write.")] = None,
) -> None:
    """List proposals, the most similar names first."""
    from lakehouse.api import Lake

    which = "" if everything else "WHERE decision = 'proposed'"
    with explained():
        found = Lake.open(as_of=as_of).sql(
            f"FROM reference.judgements {which} ORDER BY score DESC, scheme, value, subject"
        )
        assert found is not None
        print_result(console, found, format_of(output), output)


@judgements_app.command()
def confirm(kind: Kind, value: Value, lei: Lei, by: By = None) -> None:
    """Confirm that an identifier stands for an entity: `resolve` uses it from then on."""
    _record(kind, value, lei, "confirmed", by)


@judgements_app.command()
def reject(kind: Kind, value: Value, lei: Lei, by: By = None) -> None:
    """Reject that an identifier stands for an entity; a confirmation before it ends."""
    _record(kind, value, lei, "rejected", by)


def _record(kind: str, value: str, lei: str, decision: Literal["confirmed", "rejected"], by: str | None) -> None:
    from lakehouse.domains.reference.judgements.decide import Decision, decisions_url, record
    from lakehouse.settings import settings

    with explained():
        record(decisions_url(_SOURCE, settings()), Decision(kind, value, lei, decision, by or getpass.getuser()))
    console.print(
        f"{kind} {value}: {lei} {decision}. `lakehouse update {_SOURCE}`, or its sensor, brings this to the tables",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
