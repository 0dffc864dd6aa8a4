"""`lakehouse banking` on a server of the user's own, and on the embedded one."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from assets_tests.support.bank import balances, customer_accounts, transfer
from lakehouse.cli.app import app
from lakehouse.domains.banking.database.calls import Bank
from lakehouse.servers.postgres import Database, Place, is_running


def banking(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["banking", *arguments], input=stdin, env={"COLUMNS": "300"})


@pytest.fixture
def url(embedded_bank: Bank, monkeypatch: pytest.MonkeyPatch) -> str:
    """The seeded bank as the user's own server."""
    monkeypatch.setenv("LAKEHOUSE_DATABASE_URL", embedded_bank.database.url)
    return embedded_bank.database.url


def posted(tmp_path: Path, *lines: object) -> tuple[int, list[dict[str, Any]]]:
    """Exit status and reports of posting a file of these lines: objects, or text as it is."""
    file = tmp_path / "postings.jsonl"
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    result = banking("post", str(file))
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.usefixtures("url")
def test_a_file_gets_a_report_per_line(tmp_path: Path, embedded_bank: Bank) -> None:
    one, two, *_, four, _ = customer_accounts(embedded_bank)
    before = balances(embedded_bank)
    lines = [
        transfer("a", one, two, "10.00"),
        transfer("b1", one, two, "1.00", batch="b"),
        transfer("b2", four, two, "5000.00", batch="b"),
        transfer("c", two, one, "0.50", effective_at="2026-01-31T10:00:00+01:00", employee=1),
    ]
    status, reports = posted(tmp_path, *lines)
    assert status == 1
    assert [(each["line"], each["key"], each["status"]) for each in reports] == [
        (1, "a", "posted"),
        (2, "b1", "refused"),
        (3, "b2", "refused"),
        (4, "c", "posted"),
    ]
    assert "code" not in reports[1]
    assert "line 3" in reports[1]["error"]
    assert reports[2]["code"] == "23514"
    assert four in reports[2]["error"]
    assert balances(embedded_bank)[one] == before[one] - Decimal("9.50")
    (kept,) = embedded_bank.rows(
        "SELECT effective_at = '2026-01-31T09:00:00Z' AS so, employee_id FROM bank.transaction WHERE id = %s",
        [reports[3]["transaction"]],
    )
    assert kept == {"so": True, "employee_id": 1}


@pytest.mark.usefixtures("url")
def test_a_file_that_is_posted_again_is_replayed(tmp_path: Path, embedded_bank: Bank) -> None:
    one, two, *_ = customer_accounts(embedded_bank)
    lines = [transfer(f"k{n}", one, two, "1.00", batch="all") for n in range(3)]
    status, first = posted(tmp_path, *lines)
    assert (status, {each["status"] for each in first}) == (0, {"posted"})
    after = balances(embedded_bank)
    status, again = posted(tmp_path, *lines)
    assert (status, {each["status"] for each in again}) == (0, {"replayed"})
    assert [each["transaction"] for each in again] == [each["transaction"] for each in first]
    assert balances(embedded_bank) == after
    status, other = posted(tmp_path, transfer("k0", one, two, "2.00"))
    assert (status, other[0]["code"]) == (1, "23505")


@pytest.mark.usefixtures("url")
def test_lines_of_a_batch_belong_together_wherever_they_are(tmp_path: Path, embedded_bank: Bank) -> None:
    one, two, *_ = customer_accounts(embedded_bank)
    lines = [
        transfer("x1", one, two, "1.00", batch="x"),
        transfer("y", one, two, "1.00"),
        transfer("x2", one, "nowhere", "1.00", batch="x"),
    ]
    _, reports = posted(tmp_path, *lines)
    assert {each["line"]: each["status"] for each in reports} == {1: "refused", 2: "posted", 3: "refused"}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        ('{"key": "k", "type": "Transfer"}', "no entries"),
        ('{"key": "", "type": "Transfer", "entries": [{}]}', "no key"),
        ('{"key": "k", "type": "Transfer", "entries": [{"account": "1", "amount": 5.0}]}', "decimal text"),
        ('{"key": "k", "type": "Transfer", "entries": [{"account": "1", "amount": "1e3"}]}', "decimal text"),
        ('{"key": "k", "type": "Transfer", "entries": [{"account": 1, "amount": "5"}]}', "as text"),
        ('{"key": "k", "type": "Transfer", "entries": [{"account": "1"}]}', "an account and an amount"),
        ('{"key": "k", "typ": "Transfer"}', "typ is no member"),
        ('{"key": "k", "type": "Gift", "entries": [{"account": "1", "amount": "5"}]}', "Gift is no type"),
    ],
)
@pytest.mark.usefixtures("url")
def test_a_line_that_is_no_posting_is_refused_and_the_others_go_on(
    line: str, error: str, tmp_path: Path, embedded_bank: Bank
) -> None:
    one, two, *_ = customer_accounts(embedded_bank)
    status, reports = posted(tmp_path, line, "", transfer("good", one, two, "1.00"))
    assert status == 1
    assert (reports[0]["line"], reports[0]["status"]) == (1, "refused")
    assert error in reports[0]["error"]
    assert (reports[1]["line"], reports[1]["status"]) == (3, "posted")


@pytest.mark.usefixtures("url")
def test_a_line_that_is_no_json_spoils_the_batches_beside_it(tmp_path: Path, embedded_bank: Bank) -> None:
    """It may have been one of their lines, and a batch is posted whole or not at all."""
    one, two, *_ = customer_accounts(embedded_bank)
    lines = [
        transfer("p1", one, two, "1.00", batch="p"),
        transfer("p2", one, two, "1.00", batch="p"),
        '{"key": "q0", "batch": "q',
        transfer("q1", one, two, "1.00", batch="q"),
        transfer("r", one, two, "1.00", batch="r"),
    ]
    _, reports = posted(tmp_path, *lines)
    statuses = {each["line"]: each["status"] for each in reports}
    assert statuses == {1: "refused", 2: "refused", 3: "refused", 4: "refused", 5: "posted"}


@pytest.mark.usefixtures("url")
def test_standard_input_is_posted(embedded_bank: Bank) -> None:
    one, two, *_ = customer_accounts(embedded_bank)
    result = banking("post", "-", stdin=json.dumps(transfer("k", one, two, "1.00")))
    assert json.loads(result.stdout)["status"] == "posted"


@pytest.mark.usefixtures("url")
def test_a_transaction_is_reversed_once(tmp_path: Path, embedded_bank: Bank) -> None:
    one, two, *_ = customer_accounts(embedded_bank)
    before = balances(embedded_bank)
    _, (report,) = posted(tmp_path, transfer("k", one, two, "1.00"))
    number = str(report["transaction"])
    assert f"Transaction {number} is reversed by" in banking("reverse", number).stdout
    assert "already" in banking("reverse", number).stdout
    again = banking("reverse", number, "--key", "another")
    assert again.exit_code == 1
    assert "is reversed already" in again.stderr
    assert balances(embedded_bank) == before


@pytest.mark.usefixtures("url")
def test_a_statement_has_an_opening_and_a_closing_balance(
    tmp_path: Path, embedded_bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, *_ = customer_accounts(embedded_bank)
    monkeypatch.setenv("LAKEHOUSE_BANKING_TIME_ZONE", "Europe/Berlin")
    days = {"k1": "2026-01-31T22:30:00Z", "k2": "2026-01-31T23:30:00Z", "k3": "2026-02-01T23:30:00Z"}
    posted(tmp_path, *(transfer(key, two, one, "1.25", effective_at=at) for key, at in days.items()))
    result = banking("statement", one, "--from", "2026-02-01", "--to", "2026-02-01")
    _, opening, *lines, closing = [line.split() for line in result.stdout.splitlines()]
    assert (opening[-1], closing[-1], len(lines)) == ("1.25", "2.50", 1)
    whole = banking("statement", one).stdout.splitlines()
    assert whole[1].split()[-1] == "0.00"
    assert whole[-1].split()[-1] == f"{balances(embedded_bank)[one].normalize():,.2f}"
    assert banking("statement", "nowhere").exit_code == 1


@pytest.mark.usefixtures("url")
def test_people_oversee_accounts(embedded_bank: Bank) -> None:
    def did(*arguments: str) -> dict[str, Any]:
        result = banking(*arguments)
        assert result.exit_code == 0, result.stderr
        return dict(json.loads(result.stdout))

    branch = did("add-branch", "--key", "1", "--name", "North")["branch"]
    did("add-employee", "--key", "2", "--branch", str(branch), "--name", "Kim")
    customer = did("open-customer", "--key", "3", "--name", "Noor", "--email", "noor@example.com")["customer"]
    where = ["--customer", str(customer), "--branch", str(branch), "--type", "Checking", "--currency", "USD"]
    account = did("open-account", "--key", "4", *where, "--opening", "500.00")["account"]
    own = ["--account", account]
    assert did("open-account", "--key", "4", *where, "--opening", "500.00")["replayed"]
    did("set-minimum", "--key", "5", *own, "--minimum", "-100.00")
    did("issue-card", "--key", "6", *own, "--type", "Debit", "--last-four", "1234", "--expires-on", "2030-12-31")
    terms = ["--type", "Auto", "--principal", "1200", "--annual-rate", "10", "--months", "12"]
    loan = did("grant-loan", "--key", "7", *own, *terms)["loan"]
    assert did("pay-loan", "--key", "8", "--loan", str(loan), *own, "--amount", "110")["interest"] == "10"
    hold = did("place-hold", "--key", "9", *own, "--amount", "50")["hold"]
    did("capture-hold", "--key", "10", "--hold", str(hold), "--to", "CASH-USD", "--amount", "20")
    hold = did("place-hold", "--key", "11", *own, "--amount", "50")["hold"]
    did("release-hold", "--key", "12", "--hold", str(hold))
    did("block-account", "--key", "13", *own)
    did("block-account", "--key", "14", *own, "--unblock")
    refused = banking("close-account", "--key", "15", *own)
    assert refused.exit_code == 1
    assert "both have to be 0" in refused.stderr
    assert balances(embedded_bank)[account] == 500 + 1200 - 110 - 20
    shown = banking("loan", str(loan)).stdout.splitlines()
    assert len(shown) == 1 + 12 + 1
    assert "paid 110" in shown[-1]


def test_a_database_without_a_bank_says_how_to_make_one(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_DATABASE_URL", empty_database.url)
    result = banking("seed")
    assert result.exit_code == 2
    assert "Run `lakehouse banking init`" in result.stderr


def test_the_embedded_server_serves_a_command_and_is_stopped(tmp_path: Path) -> None:
    place = Place(tmp_path / "lakehouse" / "postgres")
    assert "0001, 0002" in banking("init").stdout
    assert "it was up to date" in banking("init", "--keep").stdout
    assert is_running(place)
    assert banking("seed").exit_code == 0
    result = banking("psql", "-c", "SELECT 1")
    assert result.exit_code == 0
    assert is_running(place)
    assert "is stopped" in banking("stop").stdout
    assert not is_running(place)
