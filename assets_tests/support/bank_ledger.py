"""A bank in plain Python: what the database has to agree with. No SQL and no code of the project's."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

CENT = Decimal("0.01")


class Rejected(Exception):
    """The ledger refuses a request; nothing of it was done."""


@dataclass
class Account:
    """An account; without a minimum it is one of the bank's own."""

    balance: Decimal
    minimum: Decimal | None
    held: Decimal = Decimal(0)
    is_closed: bool = False


@dataclass
class Loan:
    outstanding: Decimal
    annual_rate: Decimal
    is_paid_off: bool = False


@dataclass
class Ledger:
    """The state of a bank; each method is one function of the database's."""

    accounts: dict[str, Account]
    loans: dict[int, Loan]
    requests: dict[str, tuple[str, Any]] = field(default_factory=dict)
    entries: dict[str, list[tuple[str, Decimal]]] = field(default_factory=dict)
    reversed: set[str] = field(default_factory=set)
    payments: dict[str, tuple[int, Decimal]] = field(default_factory=dict)
    holds: dict[str, tuple[str, Decimal]] = field(default_factory=dict)
    open_holds: set[str] = field(default_factory=set)

    def do(self, function: str, key: str, **request: Any) -> None:
        """Does a request, or finds that it was done before.

        Raises:
            Rejected: it breaks a rule, or its key was used for another request.
        """
        asked = (function, request)
        if key in self.requests:
            if self.requests[key] != asked:
                raise Rejected("key")
            return
        getattr(self, f"_{function}")(key, **request)
        self.requests[key] = asked

    def _post(self, key: str, source: str, target: str, amount: Decimal) -> None:
        self._move(key, [(source, -amount), (target, amount)])

    def _reverse(self, key: str, of: str) -> None:
        if of not in self.entries or of in self.reversed:
            raise Rejected("reversed")
        self._move(key, [(account, -amount) for account, amount in self.entries[of]])
        self.reversed.add(of)
        if of in self.payments:
            number, principal = self.payments[of]
            loan = self.loans[number]
            loan.outstanding += principal
            loan.is_paid_off = loan.is_paid_off and principal == 0

    def _place_hold(self, key: str, account: str, amount: Decimal) -> None:
        found = self.accounts[account]
        if found.is_closed or (found.minimum is not None and found.balance - found.held - amount < found.minimum):
            raise Rejected("hold")
        found.held += amount
        self.holds[key] = (account, amount)
        self.open_holds.add(key)

    def _release_hold(self, key: str, of: str) -> None:
        account, amount = self._open_hold(of)
        self.accounts[account].held -= amount
        self.open_holds.remove(of)

    def _capture_hold(self, key: str, of: str, to: str) -> None:
        account, amount = self._open_hold(of)
        self.accounts[account].held -= amount
        try:
            self._move(key, [(account, -amount), (to, amount)])
        except Rejected:
            self.accounts[account].held += amount
            raise
        self.open_holds.remove(of)

    def _pay_loan(self, key: str, loan: int, account: str, amount: Decimal) -> None:
        found = self.loans[loan]
        interest = min(amount, (found.outstanding * found.annual_rate / 1200).quantize(CENT, "ROUND_HALF_UP"))
        principal = amount - interest
        if found.is_paid_off or principal > found.outstanding:
            raise Rejected("loan")
        legs = [(account, -amount), ("LOANS-USD", principal), ("INTEREST-USD", interest)]
        self._move(key, [leg for leg in legs if leg[1] != 0])
        found.outstanding -= principal
        found.is_paid_off = found.outstanding == 0
        self.payments[key] = (loan, principal)

    def _close_account(self, key: str, account: str) -> None:
        found = self.accounts[account]
        if found.is_closed or found.balance != 0 or found.held != 0:
            raise Rejected("close")
        found.is_closed = True

    def _open_hold(self, key: str) -> tuple[str, Decimal]:
        if key not in self.open_holds:
            raise Rejected("hold")
        return self.holds[key]

    def _move(self, key: str, legs: list[tuple[str, Decimal]]) -> None:
        """Writes a transaction; the legs on one account count together."""
        moved: dict[str, Decimal] = {}
        for account, amount in legs:
            moved[account] = moved.get(account, Decimal(0)) + amount
        for account, amount in moved.items():
            found = self.accounts[account]
            if found.is_closed:
                raise Rejected("closed")
            if found.minimum is not None and found.balance - found.held + amount < found.minimum:
                raise Rejected("minimum")
        for account, amount in moved.items():
            self.accounts[account].balance += amount
        self.entries[key] = legs
