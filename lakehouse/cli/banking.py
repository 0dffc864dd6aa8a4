"""`lakehouse banking`: the bank's database, its postings, and how people oversee accounts.

Belongs here: what reads and posts. Commands that oversee are in `overseeing`; those of the lake in `capture`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from lakehouse.cli.explained import console, errors, explained, print_error
from lakehouse.cli.next_steps import try_next
from lakehouse.cli.options import day

if TYPE_CHECKING:
    from lakehouse.domains.banking.database.calls import Bank
    from lakehouse.domains.banking.database.post_file import LineReport
    from lakehouse.domains.banking.source import BankSource

banking_app = typer.Typer(
    name="banking",
    help="Keep bank accounts on PostgreSQL: post, oversee, and read statements.",
    no_args_is_help=True,
)
KeyOption = Annotated[
    str, typer.Option("--key", metavar="KEY", help="Your own name of this request: repeating it changes nothing.")
]
EffectiveOption = Annotated[
    str | None,
    typer.Option("--effective-at", metavar="TIMESTAMP", help="When it counts, UTC without an offset; now by default."),
]


def bank_source() -> BankSource:
    """The bank that a `defs.yaml` describes.

    Raises:
        SourceError: its file is broken or gone.
    """
    from lakehouse.catalog import described_source

    return cast("BankSource", described_source("banking"))


@contextmanager
def open_bank() -> Iterator[Bank]:
    """The bank's database while a command lasts; a refusal is printed and ends the command with status 1."""
    from lakehouse.domains.banking.database.calls import Bank, Refused

    with explained():
        try:
            with Bank(bank_source().place) as bank:
                yield bank
        except Refused as refusal:
            print_error(refusal)
            raise typer.Exit(1) from None


def say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


@banking_app.command()
def init(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the embedded server running; stop it by `lakehouse banking stop`.")
    ] = False,
) -> None:
    """Make the bank's tables, or bring them up to date."""
    from lakehouse.domains.banking.database.schema import SCHEMA, prepare
    from lakehouse.servers.postgres import database

    with explained(), database(bank_source().place, keep=keep) as found:
        new = prepare(found)
        what = f"revisions {', '.join(new)} are new" if new else "it was up to date"
        say(f"The schema {SCHEMA} is at {found}: {what}.")
    try_next("banking seed", "banking post postings.jsonl", "banking capture")


@banking_app.command()
def stop() -> None:
    """Stop an embedded server that was left running, once nothing uses it."""
    from lakehouse.servers.postgres import release

    with explained():
        stopped = release(bank_source().place)
    say("The embedded server is stopped." if stopped else "The embedded server stops with its last user.")


@banking_app.command()
def seed() -> None:
    """Play a small bank: five rows of everything. Seeding again changes nothing."""
    from lakehouse.domains.banking.database.seed import seed as play

    with open_bank() as bank:
        new = play(bank)
    say(f"{new:,} requests were new." if new else "The bank was seeded already.")


@banking_app.command()
def post(
    file: Annotated[Path, typer.Argument(help="JSON lines, or - for standard input.", allow_dash=True)],
) -> None:
    """Post a file of JSON lines, and report on each.

    A line is {"key", "type", "entries": [{"account", "amount"}], "effective_at"?, "employee"?, "batch"?}. Amounts are
    decimal text. Lines of one batch are posted together or not at all. Exits with 1 where a line was refused.
    """
    from lakehouse.domains.banking.database.post_file import post_lines

    counts: dict[str, int] = {"posted": 0, "replayed": 0, "refused": 0}
    with open_bank() as bank, _opened(file) as lines:
        for report in post_lines(bank, lines):
            _print_report(report)
            counts[report.status] += 1
    errors.print(", ".join(f"{count:,} {status}" for status, count in counts.items()), highlight=False)
    if counts["refused"]:
        raise typer.Exit(1)


@contextmanager
def _opened(file: Path) -> Iterator[Iterator[str]]:
    """The lines of a file. Bytes that are no UTF-8 stay as they are, and make their own line no JSON at most."""
    if str(file) == "-":
        yield iter(sys.stdin)
        return
    with file.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        yield iter(lines)


def _print_report(report: LineReport) -> None:
    sys.stdout.write(f"{report.to_json()}\n")


@banking_app.command()
def reverse(
    transaction: Annotated[int, typer.Argument(metavar="ID", help="Id of the transaction.")],
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="Name of this request; made of the id by default.")
    ] = None,
    effective_at: EffectiveOption = None,
) -> None:
    """Reverse a transaction, once: post its entries with the opposite sign."""
    request = {"key": key or f"reverse {transaction}", "transaction": transaction}
    with open_bank() as bank:
        answer = bank.call("reverse", request | ({"effective_at": effective_at} if effective_at else {}))
    again = " already" if answer["replayed"] else ""
    say(f"Transaction {transaction} is reversed{again} by transaction {answer['transaction']}.")


@banking_app.command()
def statement(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="Number of the account.")],
    first: Annotated[
        date | None, typer.Option("--from", parser=day, metavar="DATE", help="First day; all days by default.")
    ] = None,
    last: Annotated[
        date | None, typer.Option("--to", parser=day, metavar="DATE", help="Last day; all days by default.")
    ] = None,
) -> None:
    """Show the entries of an account, with its balance before and after. Days are those of the bank's time zone."""
    from lakehouse.domains.banking.database.statement import statement as read

    with open_bank() as bank:
        zone = bank_source().days.zone
        found = read(bank, account, first or date.min, last or date.max, zone)
    say(f"Account {found.account} in {found.currency}, days in {zone}")
    say(f"{'opening balance':<52} {'':>16} {found.opening:>16,}")
    for line in found.lines:
        what = f"{line.day} {line.type:<10} transaction {line.transaction}"
        say(f"{what:<52} {line.amount:>16,} {line.balance:>16,}")
    say(f"{'closing balance':<52} {'':>16} {found.closing:>16,}")


@banking_app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def psql(context: typer.Context) -> None:
    """Open psql on the bank's database; further arguments are psql's, such as -c "select * from bank.branch"."""
    import subprocess

    from lakehouse.servers.launch import binary
    from lakehouse.servers.postgres import database

    with explained(), database(bank_source().place) as found:
        ended = subprocess.run([str(binary("psql")), found.url, *context.args]).returncode
    raise typer.Exit(ended)
