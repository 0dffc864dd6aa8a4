"""The models of banks: what they have, and each of their checks notices what it is for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from assets_tests.support.bank import customer_accounts, transfer
from assets_tests.support.dbt_warehouse import Warehouse
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.derive.captured import CapturedSource, capture_and_derive
from lakehouse.domains.banking.database.calls import Bank
from lakehouse.settings import settings
from lakehouse.warehouse.dbt import manifest

pytestmark = pytest.mark.integration
TAMPERING = {
    "insert into marts.dim_bank_customer from (from marts.dim_bank_customer limit 1)": {
        "dim_bank_customer_key",
        "dim_bank_customer_has_all_customers",
    },
    "delete from marts.dim_bank_customer": {
        "dim_bank_customer_has_all_customers",
        "dim_account_customer_exists",
        "fct_loan_payment_customer_exists",
    },
    "insert into marts.dim_branch from (from marts.dim_branch limit 1)": {
        "dim_branch_key",
        "dim_branch_has_all_branches",
    },
    "delete from marts.dim_branch": {"dim_branch_has_all_branches", "dim_account_branch_exists"},
    "insert into marts.dim_account from (from marts.dim_account limit 1)": {
        "dim_account_key",
        "dim_account_versions_continuous",
        "dim_account_has_all_versions",
    },
    "delete from marts.dim_account": {
        "dim_account_has_all_versions",
        "fct_entry_account_exists",
        "fct_balance_daily_account_exists",
    },
    "insert into marts.fct_entry from (from marts.fct_entry limit 1)": {"fct_entry_key", "fct_entry_has_all_entries"},
    "insert into marts.fct_balance_daily from (from marts.fct_balance_daily limit 1)": {
        "fct_balance_daily_key",
        "fct_balance_daily_has_all_money",
    },
    "insert into marts.fct_loan_payment from (from marts.fct_loan_payment limit 1)": {
        "fct_loan_payment_key",
        "fct_loan_payment_has_all_money",
    },
}


def test_models__have_versions_and_every_check_notices_what_it_is_for(
    embedded_bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = embedded_bank
    monkeypatch.setenv("LAKEHOUSE_DATABASE_URL", bank.database.url)
    source = described_source("banking")
    assert isinstance(source, CapturedSource)
    capture_and_derive(Lake.present(), source)
    first, second = customer_accounts(bank)[:2]
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    bank.post([transfer("back", first, second, "1.25", effective_at=yesterday)])
    bank.call("block_account", {"key": "block", "account": second})
    capture_and_derive(Lake.present(), source)
    warehouse = Warehouse(tmp_path / "warehouse", others=[source])
    checks = warehouse.build("--select", "fqn:lakehouse.marts.banking")
    tests = [node for node in manifest(settings()).nodes.values() if node.resource_type == "test"]
    assert checks.keys() == {node.name for node in tests if node.fqn[2] == "banking"}
    assert warehouse.query(f"SELECT status, is_current FROM marts.dim_account WHERE account_number = '{second}'") == [
        ("Blocked", True)
    ]
    assert warehouse.query("SELECT sum(entry_amount) FROM marts.fct_entry") == [(0,)]
    columns = [name for name, *_ in warehouse.query("DESCRIBE marts.dim_bank_customer")]
    assert not {"email", "name", "phone", "address"} & set(columns)
    assert warehouse.noticed(TAMPERING, checks) == TAMPERING
    assert set().union(*TAMPERING.values()) == checks.keys()
