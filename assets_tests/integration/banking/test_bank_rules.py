"""The rules of the bank's database, each with its error code, on the embedded server and on Debian's."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import psycopg
import pytest

from assets_tests.support.bank import balances, customer_accounts, transfer
from lakehouse.domains.banking.database.calls import Bank, Refused
from lakehouse.domains.banking.database.schema import prepare
from lakehouse.domains.banking.database.seed import seed

CASH = "CASH-USD"


def refused(bank: Bank, *batch: dict[str, Any]) -> Refused:
    with pytest.raises(Refused) as found:
        bank.post(batch)
    return found.value


def call_refused(bank: Bank, function: str, **request: Any) -> Refused:
    with pytest.raises(Refused) as found:
        bank.call(function, request)
    return found.value


def state_of(bank: Bank, statement: str) -> str | None:
    """The SQLSTATE of a statement that is refused."""
    with bank.database.connect() as connection, pytest.raises(psycopg.Error) as found:
        connection.execute(statement.encode())
    return found.value.sqlstate


def test_the_seed_is_as_promised(bank: Bank) -> None:
    first = bank.rows("SELECT * FROM bank.account ORDER BY id LIMIT 5")
    for account in first:
        minimum = account["customer_minimum"] if account["minimum_balance"] is None else account["minimum_balance"]
        assert account["customer_id"] is not None
        assert (account["currency"], account["status_id"], account["held"]) == ("USD", 1, 0)
        assert minimum + 100 <= account["balance"] < 10_000
    others = bank.rows("SELECT customer_id FROM bank.account ORDER BY id OFFSET 5")
    assert [row["customer_id"] for row in others] == [None] * 5
    for table in ("branch", "employee", "customer", "card", "loan", "loan_payment", "hold"):
        assert bank.rows(f"SELECT count(*) AS rows FROM bank.{table}") == [{"rows": 5}], table


def test_seeding_and_preparing_again_changes_nothing(bank: Bank) -> None:
    before = bank.rows("SELECT * FROM bank.entry ORDER BY transaction_id, line")
    assert seed(bank) == 0
    assert prepare(bank.database) == []
    assert bank.rows("SELECT * FROM bank.entry ORDER BY transaction_id, line") == before


def test_a_batch_is_all_or_nothing(bank: Bank) -> None:
    accounts = customer_accounts(bank)
    ten = [transfer(f"t{n}", accounts[n % 5], accounts[(n + 1) % 5], f"{n + 1}.25") for n in range(10)]
    assert [replayed for _, replayed in bank.post(ten)] == [False] * 10
    before = balances(bank)
    refusal = refused(bank, transfer("u1", accounts[0], CASH, "1.00"), transfer("u2", accounts[3], CASH, "5000.00"))
    assert (refusal.code, refusal.key) == ("23514", "u2")
    assert accounts[3] in str(refusal)
    assert balances(bank) == before
    assert bank.rows("SELECT * FROM bank.transaction WHERE idempotency_key IN ('u1', 'u2')") == []


def test_a_batch_may_not_overdraw_on_the_way(bank: Bank) -> None:
    account = customer_accounts(bank)[3]
    refusal = refused(bank, transfer("out", account, CASH, "5000"), transfer("in", CASH, account, "5000"))
    assert (refusal.code, refusal.key) == ("23514", "out")
    bank.post([transfer("in", CASH, account, "5000"), transfer("out", account, CASH, "5000")])


def test_entries_of_one_transaction_on_one_account_count_together(bank: Bank) -> None:
    account = customer_accounts(bank)[0]
    entries = [(account, "-9000"), (account, "9001"), (CASH, "-1")]
    request = {"key": "both", "type": "Adjustment"}
    bank.post([request | {"entries": [{"account": number, "amount": amount} for number, amount in entries]}])


def test_an_unbalanced_transaction_is_refused(bank: Bank) -> None:
    account = customer_accounts(bank)[0]
    entries = [{"account": account, "amount": "-5.00"}, {"account": CASH, "amount": "5.01"}]
    assert refused(bank, {"key": "u", "type": "Payment", "entries": entries}).code == "23514"
    assert refused(bank, {"key": "u", "type": "Payment", "entries": []}).code == "23514"
    with bank.database.connect() as connection:
        connection.execute(
            """WITH header AS (
                INSERT INTO bank.transaction (type_id, idempotency_key, request_hash, posted_at, effective_at)
                VALUES (1, 'direct', '', now(), now()) RETURNING id
            ) INSERT INTO bank.entry SELECT id, 1, 1, 5, 5 FROM header"""
        )
        with pytest.raises(psycopg.errors.CheckViolation, match="does not balance: its entries in USD sum to 5"):
            connection.commit()


def test_currencies_balance_each(bank: Bank) -> None:
    """A foreign-exchange transfer is four entries through liquidity accounts."""
    bank.call("open_account", {"key": "l", "purpose": "Liquidity", "currency": "EUR"})
    euros = bank.call(
        "open_account",
        {"key": "e", "customer": 1, "branch": 1, "type": "Savings", "currency": "EUR", "number": "EURO-1"},
    )["account"]
    dollars = customer_accounts(bank)[0]
    two = [{"account": dollars, "amount": "-11.00"}, {"account": euros, "amount": "10.00"}]
    four = [*two, {"account": "LIQUIDITY-USD", "amount": "11.00"}, {"account": "LIQUIDITY-EUR", "amount": "-10.00"}]
    assert refused(bank, {"key": "fx", "type": "Transfer", "entries": two}).code == "23514"
    bank.post([{"key": "fx", "type": "Transfer", "entries": four}])
    assert balances(bank)[euros] == Decimal("10.00")


@pytest.mark.parametrize("amount", ["0", "0.001", "NaN", "Infinity"])
def test_an_amount_that_its_currency_does_not_have_is_refused(amount: str, bank: Bank) -> None:
    entries = [{"account": CASH, "amount": amount}, {"account": customer_accounts(bank)[0], "amount": amount}]
    assert refused(bank, {"key": "odd", "type": "Transfer", "entries": entries}).code == "23514"


def test_yen_have_no_digits_after_the_point(bank: Bank) -> None:
    for purpose in ("Cash", "Liquidity"):
        bank.call("open_account", {"key": purpose, "purpose": purpose, "currency": "JPY"})
    assert refused(bank, transfer("half", "CASH-JPY", "LIQUIDITY-JPY", "0.5")).code == "23514"
    bank.post([transfer("whole", "CASH-JPY", "LIQUIDITY-JPY", "5")])
    assert call_refused(bank, "open_account", key="x", purpose="Cash", currency="XXZ").code == "23503"


def test_a_key_gives_its_first_answer_again(bank: Bank) -> None:
    account = customer_accounts(bank)[0]
    request = transfer("once", account, CASH, "5.00")
    ((made, _),) = bank.post([request])
    after = balances(bank)
    assert bank.post([transfer("once", account, CASH, "5.0")]) == [(made, True)]
    assert bank.post([request, request]) == [(made, True)] * 2
    assert refused(bank, transfer("once", account, CASH, "6.00")).code == "23505"
    assert balances(bank) == after
    (first, _), second = bank.post([transfer("twice", account, CASH, "1"), transfer("twice", account, CASH, "1")])
    assert second == (first, True)


def test_functions_give_their_first_answer_again(bank: Bank) -> None:
    request = {"key": "b", "name": "North", "city": "Oslo"}
    made = bank.call("add_branch", request)
    assert bank.call("add_branch", request) == {**made, "replayed": True}
    assert call_refused(bank, "add_branch", key="b", name="South").code == "23505"
    assert call_refused(bank, "add_employee", key="b", name="North").code == "23505"
    assert call_refused(bank, "add_branch", name="South").code == "23502"


def test_a_customer_has_an_address_of_its_own(bank: Bank) -> None:
    bank.call("open_customer", {"key": "c", "name": "C", "email": "c1@x.example"})
    assert call_refused(bank, "open_customer", key="d", name="D", email="C1@X.example").code == "23505"
    assert call_refused(bank, "open_customer", key="d", name="D").code == "23502"
    assert call_refused(bank, "open_customer", key="d", name="D", email="nobody").code == "23514"
    assert call_refused(bank, "open_customer", key="d", name="D", email="d@x.example", type="Odd").code == "23503"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE bank.entry SET amount = 1",
        "DELETE FROM bank.entry",
        "TRUNCATE bank.entry",
        "UPDATE bank.transaction SET effective_at = now()",
        "DELETE FROM bank.transaction",
        "UPDATE bank.loan_payment SET paid = 1",
    ],
)
def test_what_was_posted_stays(statement: str, bank: Bank) -> None:
    assert state_of(bank, statement) == "23001"


def test_a_reversal_names_what_it_reverses_once(bank: Bank) -> None:
    account, before = customer_accounts(bank)[0], balances(bank)
    ((made, _),) = bank.post([transfer("wrong", account, CASH, "7.50")])
    answer = bank.call("reverse", {"key": "r", "transaction": made})
    assert balances(bank) == before
    assert bank.call("reverse", {"key": "r", "transaction": made}) == {**answer, "replayed": True}
    assert call_refused(bank, "reverse", key="again", transaction=made).code == "23505"
    assert call_refused(bank, "reverse", key="none", transaction=10**9).code == "23503"
    found = bank.rows("SELECT reverses FROM bank.transaction WHERE id = %s", [answer["transaction"]])
    assert found == [{"reverses": made}]


def test_an_account_s_own_minimum_overrides_its_customer_s(bank: Bank) -> None:
    account = customer_accounts(bank)[0]
    bank.call("set_minimum", {"key": "m1", "account": account, "minimum": "-500.00"})
    everything = balances(bank)[account]
    bank.post([transfer("below", account, CASH, str(everything + 500))])
    assert refused(bank, transfer("more", account, CASH, "0.01")).code == "23514"
    refusal = call_refused(bank, "set_minimum", key="m2", account=account, minimum=None)
    assert refusal.code == "23514"
    assert account in str(refusal)


def test_raising_a_minimum_names_the_accounts_below_it(bank: Bank) -> None:
    account = customer_accounts(bank)[1]
    second = {"key": "a", "customer": 2, "branch": 1, "type": "Savings", "currency": "USD", "opening": "150.00"}
    other = bank.call("open_account", second)["account"]
    refusal = call_refused(bank, "set_minimum", key="m", customer=2, minimum="9000")
    assert refusal.code == "23514"
    assert account in str(refusal)
    assert other in str(refusal)
    bank.call("set_minimum", {"key": "m", "customer": 2, "minimum": "150"})
    assert refused(bank, transfer("t", other, CASH, "0.01")).code == "23514"
    assert state_of(bank, f"UPDATE bank.account SET balance = 149 WHERE number = '{other}'") == "23514"


def test_an_account_is_opened_with_at_least_its_minimum(bank: Bank) -> None:
    request: dict[str, Any] = {"customer": 2, "branch": 1, "type": "Savings", "currency": "USD"}
    assert call_refused(bank, "open_account", key="a", **request).code == "23514"
    assert call_refused(bank, "open_account", key="a", **request, opening="99.99").code == "23514"
    bank.call("open_account", {"key": "a", **request, "opening": "100.00"})


def test_money_on_hold_is_not_spent(bank: Bank) -> None:
    account = customer_accounts(bank)[0]
    available = balances(bank)[account]
    held = bank.call("place_hold", {"key": "h", "account": account, "amount": str(available - 10)})["hold"]
    assert refused(bank, transfer("t", account, CASH, "10.01")).code == "23514"
    assert call_refused(bank, "place_hold", key="h2", account=account, amount="10.01").code == "23514"
    bank.call("capture_hold", {"key": "c", "hold": held, "to": CASH, "amount": "100.00"})
    assert balances(bank)[account] == available - 100
    assert bank.rows("SELECT held FROM bank.account WHERE number = %s", [account]) == [{"held": 0}]
    assert call_refused(bank, "capture_hold", key="c2", hold=held, to=CASH).code == "23514"
    assert call_refused(bank, "release_hold", key="c3", hold=held).code == "23514"


def test_a_hold_is_not_exceeded(bank: Bank) -> None:
    account = customer_accounts(bank)[0]
    held = bank.call("place_hold", {"key": "h", "account": account, "amount": "10.00"})["hold"]
    assert call_refused(bank, "capture_hold", key="c", hold=held, to=CASH, amount="10.01").code == "23514"
    released = bank.call("release_hold", {"key": "r", "hold": held})
    assert bank.call("release_hold", {"key": "r", "hold": held}) == {**released, "replayed": True}


def test_closed_and_blocked_accounts_take_no_entries(bank: Bank) -> None:
    account, other = customer_accounts(bank)[:2]
    assert call_refused(bank, "close_account", key="c", account=account).code == "23514"
    assert state_of(bank, "UPDATE bank.account SET status_id = 4, closed_at = now() WHERE id = 1") == "23514"
    bank.post([transfer("all", account, other, str(balances(bank)[account]))])
    bank.call("close_account", {"key": "c", "account": account})
    refusal = refused(bank, transfer("t", other, account, "1.00"))
    assert refusal.code == "23514"
    assert "closed" in str(refusal)
    assert state_of(bank, "UPDATE bank.account SET balance = balance WHERE id = 1") == "23514"
    assert bank.rows("SELECT is_active FROM bank.card WHERE account_id = 1") == [{"is_active": False}]
    bank.call("block_account", {"key": "b", "account": other})
    assert "blocked" in str(refused(bank, transfer("t", CASH, other, "1.00")))
    assert call_refused(bank, "place_hold", key="h", account=other, amount="1.00").code == "23514"
    bank.call("block_account", {"key": "u", "account": other, "blocked": False})
    bank.post([transfer("t", CASH, other, "1.00")])


def test_an_unknown_account_is_named(bank: Bank) -> None:
    refusal = refused(bank, transfer("t", CASH, "nowhere", "1.00"))
    assert refusal.code == "23503"
    assert "nowhere" in str(refusal)


def test_a_loan_payment_is_principal_and_interest(bank: Bank) -> None:
    account = customer_accounts(bank)[0]
    terms = {"type": "Auto", "principal": "12000", "annual_rate": "10", "months": 12, "starts_on": "2026-01-31"}
    loan = bank.call("grant_loan", {"key": "l", "account": account, **terms})["loan"]
    before = balances(bank)
    paid = bank.call("pay_loan", {"key": "p", "loan": loan, "account": account, "amount": "1000"})
    after = balances(bank)
    moved = {number: after[number] - before[number] for number in after if after[number] != before[number]}
    assert moved == {account: -1000, "LOANS-USD": 900, "INTEREST-USD": 100}
    (row,) = bank.rows("SELECT paid, principal, interest FROM bank.loan_payment WHERE id = %s", [paid["payment"]])
    assert row == {"paid": 1000, "principal": 900, "interest": 100}
    refusal = call_refused(bank, "pay_loan", key="q", loan=loan, account=account, amount="11200")
    assert refusal.code == "23514"
    bank.call("reverse", {"key": "r", "transaction": paid["transaction"]})
    assert bank.rows("SELECT outstanding FROM bank.loan WHERE id = %s", [loan]) == [{"outstanding": 12000}]


def test_a_loan_ends_when_it_is_paid_off(bank: Bank) -> None:
    account = customer_accounts(bank)[0]
    (loan,) = bank.rows("SELECT id, outstanding FROM bank.loan WHERE id = 1")
    request = {"key": "p", "loan": 1, "account": account, "amount": str(loan["outstanding"]), "interest": "0"}
    paid = bank.call("pay_loan", request)
    assert bank.rows("SELECT status_id, outstanding FROM bank.loan WHERE id = 1") == [
        {"status_id": 5, "outstanding": 0}
    ]
    assert call_refused(bank, "pay_loan", key="q", loan=1, account=account, amount="1").code == "23514"
    bank.call("reverse", {"key": "r", "transaction": paid["transaction"]})
    assert bank.rows("SELECT status_id FROM bank.loan WHERE id = 1") == [{"status_id": 1}]


def test_a_loan_has_a_schedule_and_what_is_overdue(bank: Bank) -> None:
    account = customer_accounts(bank)[0]
    terms = {"type": "Auto", "principal": "12000", "annual_rate": "10", "months": 12, "starts_on": "2026-01-31"}
    loan = bank.call("grant_loan", {"key": "l", "account": account, **terms})["loan"]
    schedule = bank.rows("SELECT * FROM bank.loan_schedule(%s)", [loan])
    assert [str(row["due_on"]) for row in schedule[:3]] == ["2026-02-28", "2026-03-31", "2026-04-30"]
    assert {row["due"] for row in schedule[:-1]} == {Decimal("1054.99")}
    assert sum(row["principal"] for row in schedule) == 12000
    assert (schedule[0]["interest"], schedule[-1]["outstanding"]) == (100, 0)
    pay = {"loan": loan, "account": account, "amount": "1054.99", "effective_at": "2026-03-01T12:00:00Z"}
    bank.call("pay_loan", {"key": "p", **pay})
    query = "SELECT due, paid, overdue, overdue_since::text FROM bank.loans_on(%s) WHERE loan_id = %s"
    (on_time,) = bank.rows(query, ["2026-03-30", loan])
    assert on_time == {"due": Decimal("1054.99"), "paid": Decimal("1054.99"), "overdue": 0, "overdue_since": None}
    (late,) = bank.rows(query, ["2026-03-31", loan])
    assert (late["overdue"], late["overdue_since"]) == (Decimal("1054.99"), "2026-03-31")


def test_a_card_is_for_its_customer_s_account(bank: Bank) -> None:
    statement = """INSERT INTO bank.card (customer_id, account_id, type_id, last_four, expires_on)
        VALUES (1, 2, 1, '4242', '2030-01-01')"""
    assert state_of(bank, statement) == "23503"


@pytest.mark.parametrize(
    ("role", "statement", "state"),
    [
        ("bank_app", "SELECT * FROM bank.post('[]')", None),
        ("bank_app", "SELECT * FROM bank.account", "42501"),
        ("bank_app", "INSERT INTO bank.entry VALUES (1, 9, 1, 1, 1)", "42501"),
        ("bank_app", "SELECT bank.own_account('Cash', 'EUR')", "42501"),
        ("bank_reader", "SELECT * FROM bank.account_transaction", None),
        ("bank_reader", "SELECT id, type_id FROM bank.customer", None),
        ("bank_reader", "SELECT email FROM bank.customer", "42501"),
        ("bank_reader", "SELECT * FROM bank.post('[]')", "42501"),
        ("bank_capture", "SELECT email FROM bank.customer", None),
        ("bank_capture", "UPDATE bank.account SET balance = 0", "42501"),
    ],
)
def test_a_role_may_do_its_own_work_only(role: str, statement: str, state: str | None, bank: Bank) -> None:
    with bank.database.connect() as connection:
        connection.execute(f"SET ROLE {role}".encode())
        if state is None:
            connection.execute(statement.encode())
        else:
            with pytest.raises(psycopg.Error) as found:
                connection.execute(statement.encode())
            assert found.value.sqlstate == state


def test_every_table_is_published_with_whole_rows(bank: Bank) -> None:
    published = bank.rows("SELECT tablename FROM pg_publication_tables WHERE pubname = 'lakehouse_banking'")
    kept = {"request", "alembic_version"}
    tables = bank.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'bank'")
    assert {row["tablename"] for row in published} == {row["tablename"] for row in tables} - kept
    other = bank.rows(
        """SELECT relname FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid WHERE relreplident <> 'f'"""
    )
    assert other == []


def test_the_one_row_form_has_the_sign_of_the_entry(bank: Bank) -> None:
    account = customer_accounts(bank)[0]
    ((made, _),) = bank.post([transfer("t", account, CASH, "5.00")])
    rows = bank.rows("SELECT account, type, amount FROM bank.account_transaction WHERE transaction_id = %s", [made])
    assert {tuple(row.values()) for row in rows} == {(account, "Transfer", -5), (CASH, "Transfer", 5)}
