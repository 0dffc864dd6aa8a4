"""`lakehouse banking open-account` and the others by which people oversee customers, accounts, holds and loans.

Each command is one function of the schema `bank`, with its members as options, and prints its answer as JSON.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from lakehouse.cli.banking import EffectiveOption, KeyOption, bank_source, banking_app, open_bank, say

AccountOption = Annotated[str, typer.Option("--account", metavar="NUMBER", help="Number of the account.")]
CurrencyOption = Annotated[str, typer.Option("--currency", metavar="CODE", help="Currency, such as USD.")]
EmployeeOption = Annotated[int | None, typer.Option("--employee", metavar="ID", help="Who did it.")]
AmountOption = Annotated[str, typer.Option("--amount", metavar="AMOUNT", help="Amount, such as 12.50.")]


def _do(function: str, key: str, **members: Any) -> None:
    request = {"key": key} | {name: value for name, value in members.items() if value is not None}
    with open_bank() as bank:
        answer = bank.call(function, request)
    say(json.dumps(answer, ensure_ascii=False))


@banking_app.command()
def add_branch(
    key: KeyOption,
    name: Annotated[str, typer.Option(help="Name of the branch.")],
    city: Annotated[str | None, typer.Option(help="Where it is.")] = None,
) -> None:
    """Add a branch."""
    _do("add_branch", key, name=name, city=city)


@banking_app.command()
def add_employee(
    key: KeyOption,
    branch: Annotated[int, typer.Option(metavar="ID", help="Branch where they work.")],
    name: Annotated[str, typer.Option(help="Name of the employee.")],
    position: Annotated[str | None, typer.Option(help="What they do.")] = None,
) -> None:
    """Add an employee of a branch."""
    _do("add_employee", key, branch=branch, name=name, position=position)


@banking_app.command()
def open_customer(
    key: KeyOption,
    name: Annotated[str, typer.Option(help="Name of the customer.")],
    email: Annotated[str, typer.Option(help="E-mail address, unique without regard to case.")],
    kind: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="Individual, Corporate, VIP, SME or Government.")
    ] = "Individual",
    minimum: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Minimum balance of the customer's accounts; 0 by default.")
    ] = None,
    phone: Annotated[str | None, typer.Option(help="Phone number.")] = None,
    address: Annotated[str | None, typer.Option(help="Postal address.")] = None,
) -> None:
    """Open a customer's file."""
    _do("open_customer", key, name=name, email=email, type=kind, minimum=minimum, phone=phone, address=address)


@banking_app.command()
def open_account(
    key: KeyOption,
    currency: CurrencyOption,
    customer: Annotated[int | None, typer.Option(metavar="ID", help="Customer whose account it is.")] = None,
    branch: Annotated[int | None, typer.Option(metavar="ID", help="Branch that keeps it.")] = None,
    kind: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="Savings, Checking, Credit, Loan or Investment.")
    ] = None,
    number: Annotated[str | None, typer.Option(help="Number of the account; the next one by default.")] = None,
    minimum: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Minimum of its own, instead of the customer's.")
    ] = None,
    opening: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Opening balance, from the bank's account OPENING.")
    ] = None,
    purpose: Annotated[
        str | None, typer.Option(help="For one of the bank's own: Cash, Opening, Interest, Loans or Liquidity.")
    ] = None,
) -> None:
    """Open an account of a customer, or one of the bank's own."""
    _do(
        "open_account",
        key,
        currency=currency,
        customer=customer,
        branch=branch,
        type=kind,
        number=number,
        minimum=minimum,
        opening=opening,
        purpose=purpose,
    )


@banking_app.command()
def close_account(key: KeyOption, account: AccountOption) -> None:
    """Close an account, which has to be empty."""
    _do("close_account", key, account=account)


@banking_app.command()
def block_account(
    key: KeyOption,
    account: AccountOption,
    unblock: Annotated[bool, typer.Option("--unblock", help="Let it take entries again.")] = False,
) -> None:
    """Block an account: it takes no entries."""
    _do("block_account", key, account=account, blocked=not unblock)


@banking_app.command()
def set_minimum(
    key: KeyOption,
    minimum: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="The minimum; without it an account has its customer's.")
    ] = None,
    customer: Annotated[int | None, typer.Option(metavar="ID", help="For all accounts of a customer.")] = None,
    account: Annotated[str | None, typer.Option(metavar="NUMBER", help="For one account.")] = None,
) -> None:
    """Set the minimum balance of a customer or of an account."""
    if (customer is None) == (account is None) or (customer is not None and minimum is None):
        raise typer.BadParameter("Name a customer and a minimum, or an account")
    _do("set_minimum", key, minimum=minimum, customer=customer, account=account)


@banking_app.command()
def issue_card(
    key: KeyOption,
    account: AccountOption,
    kind: Annotated[str, typer.Option("--type", metavar="TYPE", help="Debit, Credit, Prepaid, Gold or Platinum.")],
    last_four: Annotated[str, typer.Option(help="The last four digits of its number; the rest is not kept.")],
    expires_on: Annotated[str, typer.Option(metavar="DATE", help="Last day on which it is valid.")],
) -> None:
    """Issue a card for an account."""
    _do("issue_card", key, account=account, type=kind, last_four=last_four, expires_on=expires_on)


@banking_app.command()
def grant_loan(
    key: KeyOption,
    account: AccountOption,
    kind: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="Personal, Mortgage, Auto, Business or Education.")
    ],
    principal: Annotated[str, typer.Option(metavar="AMOUNT", help="Amount that is paid out to the account.")],
    annual_rate: Annotated[str, typer.Option(metavar="PERCENT", help="Interest a year, in percent.")],
    months: Annotated[int, typer.Option(help="Number of monthly instalments.")],
    starts_on: Annotated[str | None, typer.Option(metavar="DATE", help="Day of the loan; today by default.")] = None,
    employee: EmployeeOption = None,
    effective_at: EffectiveOption = None,
) -> None:
    """Grant a loan, and pay it out to an account of its customer."""
    _do(
        "grant_loan",
        key,
        account=account,
        type=kind,
        principal=principal,
        annual_rate=annual_rate,
        months=months,
        starts_on=starts_on,
        employee=employee,
        effective_at=effective_at,
    )


@banking_app.command()
def pay_loan(
    key: KeyOption,
    loan: Annotated[int, typer.Option(metavar="ID", help="The loan.")],
    account: AccountOption,
    amount: AmountOption,
    interest: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="How much of it is interest; a month's by default.")
    ] = None,
    employee: EmployeeOption = None,
    effective_at: EffectiveOption = None,
) -> None:
    """Pay an instalment of a loan from an account."""
    _do(
        "pay_loan",
        key,
        loan=loan,
        account=account,
        amount=amount,
        interest=interest,
        employee=employee,
        effective_at=effective_at,
    )


@banking_app.command()
def place_hold(key: KeyOption, account: AccountOption, amount: AmountOption) -> None:
    """Hold money of an account: it stays there, but can't be spent otherwise."""
    _do("place_hold", key, account=account, amount=amount)


@banking_app.command()
def capture_hold(
    key: KeyOption,
    hold: Annotated[int, typer.Option(metavar="ID", help="The hold.")],
    to: Annotated[str, typer.Option(metavar="NUMBER", help="Account that gets the money.")],
    amount: Annotated[str | None, typer.Option(metavar="AMOUNT", help="How much of it; all by default.")] = None,
    effective_at: EffectiveOption = None,
) -> None:
    """Pay from a hold; the rest of it is free again."""
    _do("capture_hold", key, hold=hold, to=to, amount=amount, effective_at=effective_at)


@banking_app.command()
def release_hold(key: KeyOption, hold: Annotated[int, typer.Option(metavar="ID", help="The hold.")]) -> None:
    """Release a hold."""
    _do("release_hold", key, hold=hold)


@banking_app.command()
def loan(loan: Annotated[int, typer.Argument(metavar="ID", help="The loan.")]) -> None:
    """Show the schedule of a loan, and what is overdue today."""
    with open_bank() as bank:
        zone = bank_source().days.zone
        instalments = bank.rows("SELECT * FROM bank.loan_schedule(%s)", [loan])
        state = bank.rows(
            "SELECT l.*, now() AT TIME ZONE %(zone)s AS today FROM "
            "bank.loans_on((now() AT TIME ZONE %(zone)s)::date, %(zone)s) l WHERE loan_id = %(loan)s",
            {"zone": zone, "loan": loan},
        )
    say(f"{'due on':<12} {'due':>14} {'principal':>14} {'interest':>14} {'outstanding':>14}")
    for each in instalments:
        amounts = (each["due"], each["principal"], each["interest"], each["outstanding"])
        say(f"{each['due_on']!s:<12} " + " ".join(f"{amount.normalize():>14,f}" for amount in amounts))
    for each in state:
        since = f", since {each['overdue_since']}" if each["overdue_since"] else ""
        say(
            f"due {each['due'].normalize():,f}, paid {each['paid'].normalize():,f}, "
            f"overdue {each['overdue'].normalize():,f}{since}"
        )
