"""The demo's bank: a few days of postings, what people do with accounts, and the capture into the lake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import count
from random import Random
from typing import Any, cast

from rich.console import Console

from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.domains.banking.database.calls import Bank
from lakehouse.domains.banking.database.post_file import post_lines
from lakehouse.domains.banking.database.schema import prepare
from lakehouse.domains.banking.database.seed import seed as seed_bank
from lakehouse.domains.banking.source import BankSource
from lakehouse.local_dagster.backfill import Outcome, run_chain
from lakehouse.local_dagster.display import Display

_A_DAY = 5
"""Postings a day."""


def play_bank(console: Console, display: Display, first: date, last: date, seed: int) -> Outcome:
    """Seeds a bank, posts a month, oversees accounts, captures and publishes it all by Dagster, whose pages show it
    then, and prints what is there.
    """
    source = cast("BankSource", described_source("banking"))
    with Bank(source.place) as bank:
        prepare(bank.database)
        seed_bank(bank)
        accounts = [row["number"] for row in bank.rows("SELECT number FROM bank.account ORDER BY id LIMIT 5")]
        reports = list(post_lines(bank, _postings(accounts, first, last, Random(seed))))
        posted = sum(report.status == "posted" for report in reports)
        _oversee(bank)
        # The server is started once for the postings and the capture.
        outcome = run_chain(source, source.present, display)
    console.print(
        f"\n[bold]banking[/]: {posted:,} of {len(reports):,} postings were posted, the others would have overdrawn; "
        f"{outcome.rows['received']:,} changes were captured; the largest balances:",
        highlight=False,
    )
    rows = Lake.open().sql(
        "SELECT number, currency, balance FROM banking.account WHERE customer_id IS NOT NULL "
        "ORDER BY balance DESC LIMIT 3"
    )
    assert rows is not None
    for number, currency, balance in rows.fetchall():
        console.print(f"  {number}  {balance:>12,.2f} {currency}", highlight=False)
    return outcome


def _postings(accounts: list[str], first: date, last: date, chance: Random) -> Iterator[str]:
    """Lines of a file: payments among accounts, each day's at noon, one of them too large."""
    for number in range((last - first).days + 1):
        at = datetime.combine(first + timedelta(days=number), time(12), UTC)
        for place in range(_A_DAY):
            source, target = chance.sample([*accounts, "CASH-USD"], 2)
            too_large = place == 0 and source != "CASH-USD"
            amount = f"{chance.randint(100, 20_000) / 100 + (50_000 if too_large else 0):.2f}"
            entries = [{"account": source, "amount": f"-{amount}"}, {"account": target, "amount": amount}]
            request = {"key": f"{at.date()} {place}", "type": "Payment", "entries": entries}
            yield json.dumps(request | {"effective_at": at.isoformat()})


def _oversee(bank: Bank) -> None:
    """What people do with accounts, from the first customer of a new branch to a closed account."""

    numbers = count(1)

    def do(function: str, **request: Any) -> dict[str, Any]:
        return bank.call(function, {"key": f"demo {next(numbers)}", **request})

    branch = do("add_branch", name="Lakeside", city="Geneva")["branch"]
    do("add_employee", branch=branch, name="Yara Haddad", position="Manager")
    customer = do("open_customer", name="Nils Berg", email="nils.berg@example.com", minimum="50.00")["customer"]
    account = do("open_account", customer=customer, branch=branch, type="Checking", currency="USD", opening="800.00")[
        "account"
    ]
    do("issue_card", account=account, type="Debit", last_four="1881", expires_on="2030-12-31")
    terms = {"type": "Auto", "principal": "5000.00", "annual_rate": "5", "months": 24}
    loan = do("grant_loan", account=account, **terms)["loan"]
    do("pay_loan", loan=loan, account=account, amount="219.36")
    do("block_account", account=account)
    do("block_account", account=account, blocked=False)
    do("set_minimum", account=account, minimum="-200.00")
    spare = do("open_account", customer=customer, branch=branch, type="Savings", currency="USD", minimum="0.00")
    do("close_account", account=spare["account"])
