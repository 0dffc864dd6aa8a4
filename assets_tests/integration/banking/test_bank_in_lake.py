"""The bank in the lake: captured, equal to the database, with daily balances, on each PostgreSQL that is supported."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assets_tests.support.bank import customer_accounts, transfer
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.cli.app import app
from lakehouse.derive.capture_rounds import CaptureRounds
from lakehouse.derive.captured import CapturedSource, capture_and_derive
from lakehouse.derive.rebuild import rebuild
from lakehouse.domains.banking.database.calls import Bank
from lakehouse.local_dagster.update import news

pytestmark = pytest.mark.integration


@pytest.fixture
def installed_bank(embedded_bank: Bank, monkeypatch: pytest.MonkeyPatch) -> Bank:
    """A seeded bank, which is the installation's."""
    monkeypatch.setenv("LAKEHOUSE_DATABASE_URL", embedded_bank.database.url)
    return embedded_bank


def source() -> CapturedSource:
    found = described_source("banking")
    assert isinstance(found, CapturedSource)
    return found


def captured() -> Lake:
    """The lake after a capture."""
    lake = Lake.present()
    capture_and_derive(lake, source())
    return lake


def failing(lake: Lake) -> list[str]:
    found = {f"{check.table}.{check.name}": check.run(lake, source(), None) for check in source().checks}
    return sorted(name for name, each in found.items() if not each.passed)


def rows(lake: Lake, query: str) -> list[tuple[object, ...]]:
    found = lake.sql(query)
    assert found is not None
    return found.fetchall()


def test_capture__the_lake_equals_the_bank_and_keeps_its_rules(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_DATABASE_URL", bank.database.url)
    lake = captured()
    first, second = customer_accounts(bank)[:2]
    bank.post([transfer("one", first, second, "12.50"), transfer("two", second, first, "0.50")])
    before = datetime.now(UTC)
    captured()
    balances = dict(rows(lake, "SELECT number, balance FROM banking.account"))
    there = {row["number"]: row["balance"] for row in bank.rows("SELECT number, balance FROM bank.account")}
    assert balances == there
    assert rows(lake, "SELECT count(*), sum(amount) FROM banking.entry") == [
        (bank.rows("SELECT count(*) AS n FROM bank.entry")[0]["n"], 0)
    ]
    assert failing(lake) == []
    assert not rebuild(lake, source(), verify=True).differs
    past = Lake.present(as_of=before)
    [(entries, balance)] = rows(
        past,
        f"SELECT count(*), (SELECT balance FROM banking.account WHERE number = '{first}') FROM banking.entry",
    )
    assert balance == there[first] + 12
    assert entries == len(bank.rows("SELECT 1 AS one FROM bank.entry")) - 4
    assert "@" not in str(rows(lake, "SELECT email, name, phone, address FROM banking.customer"))


def test_balances_daily__a_posting_dated_back_restates_the_days_after_it(installed_bank: Bank) -> None:
    bank = installed_bank
    captured()
    first, second = customer_accounts(bank)[:2]
    today = datetime.now(UTC)
    bank.post([transfer("back", first, second, "1.25", effective_at=(today - timedelta(days=3)).isoformat())])
    lake = captured()
    query = f"SELECT day, opening_balance, balance FROM banking.balances_daily WHERE number = '{second}' ORDER BY day"
    days = rows(lake, query)
    amount = Decimal("1.25")
    assert [(opening, balance) for _, opening, balance in days[:3]] == [(0, amount), (amount, amount), (amount, amount)]
    assert [day for day, *_ in days] == [(today - timedelta(days=back)).date() for back in (3, 2, 1, 0)]
    [(balance,)] = rows(lake, f"SELECT balance FROM banking.account WHERE number = '{second}'")
    assert days[-1][1:] == (amount, balance)
    assert failing(lake) == []
    assert not rebuild(lake, source(), verify=True).differs
    assert rows(Lake.present(as_of=datetime.now(UTC)), query) == days
    # Where nothing is new, nothing is read: the entries' files are gone.
    for file in Path(lake.uri, "banking", "entry").rglob("*.parquet"):
        file.unlink()
    (table,) = [table for table in source().tables if table.name == "balances_daily"]
    assert table.derive(lake, source(), []).commits == 0


def test_account_versions__follow_the_changes(installed_bank: Bank) -> None:
    bank = installed_bank
    captured()
    first, second, third = customer_accounts(bank)[:3]
    bank.post([transfer("one", first, second, "1.25")])
    bank.call("set_minimum", {"key": "low", "account": second, "minimum": "-7.00"})
    bank.call("block_account", {"key": "block", "account": third})
    bank.call("add_branch", {"key": "branch", "name": "Quay"})
    opened = {"customer": 1, "branch": 1, "type": "Savings", "currency": "USD", "opening": "5.00"}
    bank.call("open_account", {"key": "open", "number": "77", **opened})
    lake = captured()
    query = "SELECT number, minimum_balance, status_id FROM banking.account_versions WHERE valid_to IS NULL"
    found = {number: state for number, *state in rows(lake, query)}
    assert (found[second], found[third][1], found["77"][1]) == ([-7, 1], 3, 1)
    assert not rebuild(lake, source(), verify=True).differs
    # A posting makes no version, so the changes before it aren't read again: these are gone.
    last = rows(lake, "SELECT max(batch) FROM banking.capture_ledger")[0][0]
    lake.table("banking/account_changes").snapshot().delete(f"batch <= {last}")
    bank.post([transfer("two", first, second, "1.25")])
    stored = "SELECT * FROM banking.account_versions ORDER BY account_id, valid_from"
    before = rows(lake, stored)
    assert rows(captured(), stored) == before


def test_capture_rounds__do_nothing_where_no_log_was_written(installed_bank: Bank) -> None:
    bank = installed_bank
    first, second = customer_accounts(bank)[:2]
    with CaptureRounds(Lake.present(), source()) as rounds, bank.database.connect(autocommit=True) as connection:
        begun = rounds.capture()
        assert begun is not None
        assert begun.batches == 1
        # The server may write some log of its own after a while.
        assert None in [rounds.capture() for _ in range(5)]
        bank.post([transfer("one", first, second, "1.25")])
        followed = rounds.capture()
        assert followed is not None
        assert followed.transactions == 1
        connection.execute("CREATE TABLE public.other (a int)")
        others = rounds.capture()
        assert others is not None
        assert others.batches == 0
        bank.post([transfer("two", first, second, "1.25")])
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query ~ 'wal_flush' AND pid <> pg_backend_pid()"
        )
        again = rounds.capture()
        assert again is not None
        assert again.transactions == 1


def test_checks__find_what_was_tampered_with(installed_bank: Bank) -> None:
    bank = installed_bank
    captured()
    first, second = customer_accounts(bank)[:2]
    day = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    bank.post([transfer("back", first, second, "1.25", effective_at=day)])
    lake = captured()
    assert failing(lake) == []
    tampering = {
        "balances_daily": "opening_balance = 0",
        "branch_changes": "seq = 1",
        "customer_type": "id = 1",
        "entry": "transaction_id = 1 AND line = 1",
    }
    for table, where in tampering.items():
        lake.table(f"banking/{table}").snapshot().delete(where)
    accounts = lake.table("banking/account").to_polars()
    low = accounts.with_columns(balance=accounts["balance"] * 0 - 1, minimum_balance=accounts["balance"] * 0)
    lake.table("banking/account").snapshot().overwrite(low.to_arrow(), "captured_on > '1970-01-01'")
    assert failing(lake) == [
        "account.balance_equals_entries",
        "account.balance_not_below_minimum",
        "balances_daily.days_follow_each_other",
        "capture_ledger.conservation",
        "capture_ledger.source_equals_lake",
        "customer.references",
        "entry.sums_to_zero",
    ]


def test_update__captures_derives_checks_and_publishes(
    installed_bank: Bank, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    run = CliRunner()
    updated = run.invoke(app, ["update", "banking"], env={"COLUMNS": "200"})
    assert updated.exit_code == 0, updated.output
    assert re.search(r"checks passed +(\d+) of \1\b", updated.output)
    lake = Lake.present()
    [(entries,)] = rows(lake, "SELECT count(*) FROM marts.fct_entry")
    assert entries == installed_bank.rows("SELECT count(*) AS n FROM bank.entry")[0]["n"]
    [(days,)] = rows(lake, "SELECT count(*) FROM marts.fct_balance_daily")
    assert days == rows(lake, "SELECT count(*) FROM banking.balances_daily")[0][0] > 0
    assert "banking: nothing new" in run.invoke(app, ["update", "banking"]).output
    first, second = customer_accounts(installed_bank)[:2]
    installed_bank.post([transfer("one", first, second, "1.25")])
    assert run.invoke(app, ["banking", "capture"]).exit_code == 0
    # The commands that capture don't publish, so there is something left for an update.
    assert news(source()) == [source().present]
    status = run.invoke(app, ["status"], env={"COLUMNS": "200"}).output
    assert re.search(r"captured +[\d,]+ changes of 1 transactions in 2 batches, up to ", status)


def test_commands__capture_and_verify(installed_bank: Bank) -> None:
    bank = installed_bank
    run = CliRunner()
    first = run.invoke(app, ["banking", "capture"])
    assert first.exit_code == 0
    assert "nothing was captured before" in first.output
    assert "Nothing is new" in run.invoke(app, ["banking", "capture"]).output
    verified = run.invoke(app, ["banking", "verify"])
    assert (verified.exit_code, verified.output.count("equal")) == (0, 19)
    Lake.present().table("banking/branch_changes").snapshot().delete("seq = 1")
    tampered = run.invoke(app, ["banking", "verify"])
    assert tampered.exit_code == 1
    assert "1 DIFFER" in tampered.output
    other_key = run.invoke(app, ["banking", "verify"], env={"LAKEHOUSE_PSEUDONYM_KEY": "another", "COLUMNS": "200"})
    assert "other personal data, or they were hashed with another LAKEHOUSE_PSEUDONYM_KEY" in other_key.output
    with bank.database.connect(autocommit=True) as connection:
        connection.execute("ALTER TABLE bank.branch ADD nickname text")
    bank.call("add_branch", {"key": "new branch", "name": "Quay"})
    stopped = run.invoke(app, ["banking", "capture"])
    assert stopped.exit_code == 1
    assert "branch has stopped: column nickname isn't in the contract" in stopped.output
