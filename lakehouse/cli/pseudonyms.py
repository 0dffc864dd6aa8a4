"""`lakehouse pseudonyms`: the key, the way from a person to a pseudonym and back, and the erasure of a person."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.cli.explained import console, errors, explained

if TYPE_CHECKING:
    from lakehouse.ingest.pseudonyms import Pseudonyms

pseudonyms_app = typer.Typer(
    name="pseudonyms", no_args_is_help=True, help="Pseudonyms of persons: create the key, translate, erase a person."
)
_NONE = 4
ValuesArgument = Annotated[list[str], typer.Argument(help="Values; - reads them from standard input, one a line.")]
SourceOption = Annotated[str, typer.Option("--source", metavar="SOURCE", help="Source that the persons belong to.")]


@pseudonyms_app.command()
def create_key() -> None:
    """Make this installation's key, in a file that only you can read. From then on, loads store pseudonyms."""
    from lakehouse.errors import SourceError
    from lakehouse.ingest.pseudonyms import VARIABLE
    from lakehouse.ingest.secret_files import kept_once
    from lakehouse.settings import settings

    with explained():
        file = settings().secret_file(VARIABLE)
        if settings().secret(VARIABLE):
            raise SourceError(f"there is a key already, in {VARIABLE} or {file}: another would make other pseudonyms")
        kept_once(file, lambda: f"{secrets.token_hex(32)}\n".encode())
    for line in (
        f"The key is in {file}. Keep a copy elsewhere: without it no person can be told from a pseudonym.",
        "Loads store pseudonyms from now on. Run lakehouse reload retail for what was loaded before; rows that are",
        "superseded then, and earlier versions of tables, keep clear values: begin with a new lake if these must go.",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@pseudonyms_app.command()
def show(values: ValuesArgument, source: SourceOption = "retail") -> None:
    """Print the pseudonyms of persons, such as customers' numbers; exits with 4 if one has none."""
    with explained():
        pseudonyms = _pseudonyms(source)
        _print_all({value: pseudonyms.known(value) for value in _given(values)})


@pseudonyms_app.command()
def reveal(pseudonyms: ValuesArgument, source: SourceOption = "retail") -> None:
    """Print the persons behind pseudonyms; exits with 4 if one is unknown, or of a person who was erased."""
    with explained():
        known = _pseudonyms(source).values()
        _print_all({pseudonym: known.get(pseudonym) for pseudonym in _given(pseudonyms)})


@pseudonyms_app.command()
def erase(
    value: Annotated[str, typer.Argument(help="The person, such as a customer's number.")],
    source: SourceOption = "retail",
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask first.")] = False,
) -> None:
    """Erase a person: nothing leads from the pseudonym in the lake to the person any more. Erase the person at the
    source first; what it sends again gets a new pseudonym.
    """
    with explained():
        pseudonyms = _pseudonyms(source)
        if pseudonyms.known(value) is None:
            errors.print(f"{value}: no person of {source} with a pseudonym", highlight=False, markup=False)
            raise typer.Exit(_NONE)
        if not yes:
            typer.confirm(f"Erase {value} of {source}? This can't be undone.", abort=True)
        pseudonyms.erase(value)
        console.print(f"{value} of {source} is erased", highlight=False, markup=False)


def _pseudonyms(source: str) -> Pseudonyms:
    """The pseudonyms of a source.

    Raises:
        SourceError: there is no such source, or this installation has no key.
    """
    from lakehouse.catalog import described_source
    from lakehouse.errors import SourceError
    from lakehouse.ingest.pseudonyms import VARIABLE, pseudonyms_of
    from lakehouse.settings import settings

    found = pseudonyms_of(described_source(source).name, settings())
    if found is None:
        raise SourceError(f"no key for pseudonyms: set {VARIABLE}, or make one by lakehouse pseudonyms create-key")
    return found


def _given(values: Sequence[str]) -> list[str]:
    return [line.strip() for line in sys.stdin if line.strip()] if list(values) == ["-"] else list(values)


def _print_all(found: dict[str, str | None]) -> None:
    for asked, answer in found.items():
        if answer is not None:
            print(f"{asked},{answer}")
    if unknown := [asked for asked, answer in found.items() if answer is None]:
        errors.print(f"unknown: {', '.join(unknown)}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(_NONE)
