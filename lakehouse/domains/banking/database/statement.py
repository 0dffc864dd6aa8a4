"""A statement of an account: the balance before a range of days, the entries of these days, and the balance after.

An entry belongs to the day of its effective time in the bank's time zone; the balance is the sum of the entries until
then.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from lakehouse.domains.banking.database.calls import Bank, Refused

# One statement reads both, so that no posting comes between.
_LINES = """
WITH entries AS (
    SELECT t.id, y.name AS type, t.effective_at, e.line, e.amount, t.idempotency_key AS key,
        (t.effective_at AT TIME ZONE %(zone)s)::date AS day
    FROM bank.entry e
    JOIN bank.transaction t ON t.id = e.transaction_id
    JOIN bank.transaction_type y ON y.id = t.type_id
    WHERE e.account_id = %(account)s
)
SELECT before.balance AS opening, within.*
FROM (SELECT coalesce(sum(amount), 0) AS balance FROM entries WHERE day < %(first)s) AS before
LEFT JOIN entries AS within ON within.day BETWEEN %(first)s AND %(last)s
ORDER BY within.effective_at, within.id, within.line
"""


@dataclass(frozen=True)
class StatementLine:
    """An entry, and the balance after it in the statement's order."""

    transaction: int
    day: date
    effective_at: datetime
    type: str
    key: str
    amount: Decimal
    balance: Decimal


@dataclass(frozen=True)
class Statement:
    """The entries of an account on the days `first` to `last`."""

    account: str
    currency: str
    first: date
    last: date
    opening: Decimal
    lines: tuple[StatementLine, ...]

    @property
    def closing(self) -> Decimal:
        return self.lines[-1].balance if self.lines else self.opening


def statement(bank: Bank, number: str, first: date, last: date, zone: str) -> Statement:
    """The statement of an account.

    Args:
        zone: the bank's time zone, such as Europe/Berlin.

    Raises:
        Refused: the account or the time zone doesn't exist.
        DatabaseUnavailable: the database doesn't answer, or has no schema `bank`.
    """
    found = bank.rows(
        "SELECT a.id, a.currency, c.digits FROM bank.account a JOIN bank.currency c ON c.code = a.currency "
        "WHERE a.number = %s",
        [number],
    )
    if not found:
        raise Refused(f"account {number} does not exist", code="23503")
    exponent = Decimal(1).scaleb(-found[0]["digits"])
    rows = bank.rows(_LINES, {"account": found[0]["id"], "zone": zone, "first": first, "last": last})
    balance = opening = rows[0]["opening"].quantize(exponent)
    lines = []
    for row in rows:
        if row["id"] is None:  # no entry on these days
            continue
        amount = row["amount"].quantize(exponent)
        balance += amount
        lines.append(
            StatementLine(row["id"], row["day"], row["effective_at"], row["type"], row["key"], amount, balance)
        )
    return Statement(number, found[0]["currency"], first, last, opening, tuple(lines))
