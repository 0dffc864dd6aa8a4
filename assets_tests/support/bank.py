"""The seeded bank for tests, and what they ask of it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from lakehouse.domains.banking.database.calls import Bank
from lakehouse.domains.banking.database.schema import prepare
from lakehouse.domains.banking.database.seed import seed
from lakehouse.servers.postgres import Database, Place

NOWHERE = Path("/nonexistent")
"""The folder of an embedded server that isn't used, since the URL of another is given."""


def bank_at(database: Database) -> Bank:
    return Bank(Place(NOWHERE, database.url))


def make_seeded(database: Database) -> None:
    """Seeds a bank in an empty database."""
    prepare(database)
    with bank_at(database) as bank:
        seed(bank)


def transfer(key: str, source: str, target: str, amount: str, **members: Any) -> dict[str, Any]:
    """A posting that moves an amount, as a line of a file says it."""
    entries = [{"account": source, "amount": f"-{amount}"}, {"account": target, "amount": amount}]
    return {"key": key, "type": "Transfer", "entries": entries, **members}


def customer_accounts(bank: Bank) -> list[str]:
    """The numbers of the customers' accounts, by id."""
    rows = bank.rows("SELECT number FROM bank.account WHERE customer_id IS NOT NULL ORDER BY id")
    return [row["number"] for row in rows]


def balances(bank: Bank) -> dict[str, Decimal]:
    return {row["number"]: row["balance"] for row in bank.rows("SELECT number, balance FROM bank.account")}


def assert_sound(bank: Bank) -> None:
    """What holds of every bank at every moment."""
    faults = {
        "balances sum to 0": "SELECT currency FROM bank.account GROUP BY currency HAVING sum(balance) <> 0",
        "transactions balance": """SELECT transaction_id FROM bank.entry e JOIN bank.account a ON a.id = e.account_id
            GROUP BY transaction_id, currency HAVING sum(amount) <> 0""",
        "a balance is the sum of its entries": """SELECT number FROM bank.account a
            LEFT JOIN bank.entry e ON e.account_id = a.id GROUP BY a.id HAVING balance <> coalesce(sum(amount), 0)""",
        "balance_after is the running sum": """SELECT * FROM (SELECT balance_after, sum(amount) OVER
            (PARTITION BY account_id ORDER BY transaction_id, line) AS running FROM bank.entry) AS r
            WHERE balance_after <> running""",
        "the minimum is kept": """SELECT number FROM bank.account_available JOIN bank.account USING (number)
            WHERE status_id <> 4 AND available < minimum""",
        "held is the sum of open holds": """SELECT number FROM bank.account a LEFT JOIN bank.hold h
            ON h.account_id = a.id AND h.status = 'Open' GROUP BY a.id HAVING held <> coalesce(sum(amount), 0)""",
        "what is outstanding is what is not repaid": """SELECT l.id FROM bank.loan l LEFT JOIN bank.loan_payment p
            ON p.loan_id = l.id AND NOT EXISTS (SELECT FROM bank.transaction r WHERE r.reverses = p.transaction_id)
            WHERE l.status_id <> 2 GROUP BY l.id HAVING outstanding <> l.principal - coalesce(sum(p.principal), 0)""",
    }
    assert {rule: rows for rule, query in faults.items() if (rows := bank.rows(query))} == {}
