"""After any sequence of requests from several connections the bank is where a ledger in plain Python is.

One test hands requests of all kinds out to several connections one after another, so that both sides have to agree on
each refusal. The other lets connections post at once; the ledger plays what was posted in the order of the database.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from assets_tests.support.bank import assert_sound, bank_at, customer_accounts, make_seeded, transfer
from assets_tests.support.bank_ledger import Account, Ledger, Loan, Rejected
from assets_tests.support.servers.postgres import copy_of
from assets_tests.support.soak import soak_count
from lakehouse.domains.banking.database.calls import Bank, Refused
from lakehouse.servers.postgres import Database

CONNECTIONS = 3
AMOUNTS = st.integers(1, 250_000).map(lambda cents: Decimal(cents) / 100)
KEYS = st.integers(0, 7).map(lambda number: f"k{number}")
PLACES = st.integers(0, 4)
REQUESTS = st.one_of(
    st.tuples(st.just("post"), KEYS, PLACES, PLACES, AMOUNTS),
    st.tuples(st.just("post_all"), KEYS, PLACES, PLACES),
    st.tuples(st.just("reverse"), KEYS, KEYS),
    st.tuples(st.just("place_hold"), KEYS, PLACES, AMOUNTS),
    st.tuples(st.just("release_hold"), KEYS, KEYS),
    st.tuples(st.just("capture_hold"), KEYS, KEYS, PLACES),
    st.tuples(st.just("pay_loan"), KEYS, st.integers(1, 5), PLACES, AMOUNTS),
    st.tuples(st.just("close_account"), KEYS, PLACES),
)


def ledger_of(bank: Bank) -> Ledger:
    """The seeded bank as a ledger."""
    rows = bank.rows("SELECT number, balance, coalesce(minimum_balance, customer_minimum) AS minimum FROM bank.account")
    loans = bank.rows("SELECT id, outstanding, annual_rate FROM bank.loan")
    return Ledger(
        {row["number"]: Account(row["balance"], row["minimum"]) for row in rows},
        {row["id"]: Loan(row["outstanding"], row["annual_rate"]) for row in loans},
    )


class Both:
    """Makes each request of the database, by one of several connections, and of the ledger."""

    def __init__(self, connections: list[Bank]) -> None:
        self.connections = connections
        self.ledger = ledger_of(connections[0])
        self.accounts = customer_accounts(connections[0])
        self.made: dict[str, dict[str, Any]] = {}
        """The answers of the database by key."""

    def ask(self, connection: int, function: str, key: str, *arguments: Any) -> None:
        """Asks both, which have to agree whether it is refused."""
        named, request = self._request(function, key, *arguments)
        rejected = refused = False
        try:
            self.ledger.do("post" if function == "post_all" else function, key, **named)
        except (Rejected, KeyError):
            rejected = True
        try:
            self._of_database(self.connections[connection], function, key, request)
        except Refused:
            refused = True
        assert refused == rejected, (function, key, arguments)

    def _of_database(self, bank: Bank, function: str, key: str, request: dict[str, Any]) -> None:
        if function in ("post", "post_all"):
            ((transaction, replayed),) = bank.post([request])
            answer: dict[str, Any] = {"transaction": transaction, "replayed": replayed}
        else:
            answer = bank.call(function, request)
        first = self.made.setdefault(key, answer)
        assert answer["replayed"] is (first is not answer)
        assert {**first, "replayed": None} == {**answer, "replayed": None}

    def _request(self, function: str, key: str, *arguments: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The request as the ledger takes it, and as the database does."""
        if function in ("post", "post_all"):
            source, target = self.accounts[arguments[0]], self.accounts[arguments[1]]
            target = "CASH-USD" if source == target else target
            amount = arguments[2] if function == "post" else self.ledger.accounts[source].balance
            amount = amount or Decimal("0.01")
            named = {"source": source, "target": target, "amount": amount}
            return named, transfer(key, source, target, str(amount)) | {"type": "Payment"}
        if function == "reverse":
            of = arguments[0]
            return {"of": of}, {"key": key, "transaction": self.made.get(of, {}).get("transaction", 10**9)}
        if function == "place_hold":
            account, amount = self.accounts[arguments[0]], arguments[1]
            return {"account": account, "amount": amount}, {"key": key, "account": account, "amount": str(amount)}
        if function in ("release_hold", "capture_hold"):
            of = arguments[0]
            request = {"key": key, "hold": self.made.get(of, {}).get("hold", 10**9)}
            if function == "release_hold":
                return {"of": of}, request
            to = self.accounts[arguments[1]]
            return {"of": of, "to": to}, request | {"to": to}
        if function == "pay_loan":
            loan, place, amount = arguments
            named = {"loan": loan, "account": self.accounts[place], "amount": amount}
            return named, {"key": key, "loan": loan, "account": self.accounts[place], "amount": str(amount)}
        account = self.accounts[arguments[0]]
        return {"account": account}, {"key": key, "account": account}


def assert_equal(bank: Bank, ledger: Ledger) -> None:
    accounts = bank.rows("SELECT number, balance, held, status_id = 4 AS is_closed FROM bank.account")
    assert {row["number"]: (row["balance"], row["held"], row["is_closed"]) for row in accounts} == {
        number: (account.balance, account.held, account.is_closed) for number, account in ledger.accounts.items()
    }
    loans = bank.rows("SELECT id, outstanding, status_id = 5 AS is_paid_off FROM bank.loan")
    assert {row["id"]: (row["outstanding"], row["is_paid_off"]) for row in loans} == {
        number: (loan.outstanding, loan.is_paid_off) for number, loan in ledger.loans.items()
    }
    assert_sound(bank)


@settings(
    max_examples=soak_count(5, 100),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # an example takes too long to be shrunk
)
@given(requests=st.lists(st.tuples(st.integers(0, CONNECTIONS - 1), REQUESTS), min_size=20, max_size=80))
def test_requests_from_several_connections_end_where_the_ledger_ends(
    requests: list[tuple[int, tuple[Any, ...]]], any_postgres: Database
) -> None:
    with ExitStack() as opened:
        database = opened.enter_context(copy_of(any_postgres, "seeded_bank", make_seeded))
        both = Both([opened.enter_context(bank_at(database)) for _ in range(CONNECTIONS)])
        for connection, (function, key, *arguments) in requests:
            both.ask(connection, function, key, *arguments)
        assert_equal(both.connections[0], both.ledger)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(soak_count(1, 20)))
def test_requests_at_the_same_time_end_where_the_ledger_ends(seed: int, any_postgres: Database) -> None:
    """Connections at once, with refusals and replays: the ledger plays what was done in the order of the database."""
    with ExitStack() as opened:
        database = opened.enter_context(copy_of(any_postgres, "seeded_bank", make_seeded))
        banks = [opened.enter_context(bank_at(database)) for _ in range(4)]
        ledger, accounts = ledger_of(banks[0]), customer_accounts(banks[0])

        def play(number: int) -> list[tuple[int, str, str, str, Decimal]]:
            chance, done = random.Random(seed * 10 + number), []
            for turn in range(40):
                source, target = chance.sample(accounts, 2)
                amount = Decimal(chance.randint(1, 90_000)) / 100
                key = f"{number} {turn}"
                try:
                    ((made, _),) = banks[number].post([transfer(key, source, target, str(amount))])
                except Refused:
                    continue
                assert banks[number].post([transfer(key, source, target, str(amount))]) == [(made, True)]
                done.append((made, key, source, target, amount))
            return done

        with ThreadPoolExecutor(len(banks)) as pool:
            done = [each for played in pool.map(play, range(len(banks))) for each in played]
        # Ids are drawn while all accounts of a transaction are locked, so they order the transactions of each account.
        for _, key, source, target, amount in sorted(done):
            ledger.do("post", key, source=source, target=target, amount=amount)
        assert_equal(banks[0], ledger)
