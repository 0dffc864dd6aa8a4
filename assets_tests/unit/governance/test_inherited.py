"""The marts' columns have the units and classifications of the columns that they are made from."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse.api import Lake
from lakehouse.governance.described import DescribedTable, table_named
from lakehouse.governance.inherited import catalogued

pytestmark = pytest.mark.slow


@pytest.fixture
def tables(tmp_path: Path) -> list[DescribedTable]:
    (tmp_path / "lake").mkdir()
    lake = Lake.open(tmp_path)
    return catalogued(lake, lake.config)


def test_units_follow_columns_that_are_taken_over(tables: list[DescribedTable]) -> None:
    bars = table_named(tables, "fct_daily_bar")
    assert {name: bars.column(name).unit for name in ("close", "change_pct", "volume", "session")} == {
        "close": "currency",
        "change_pct": "percent",
        "volume": "shares or units",
        "session": None,
    }
    # A quotient of prices has no currency.
    assert table_named(tables, "returns").column("return_pct").unit is None


def test_personal_data_stay_personal_in_marts(tables: list[DescribedTable]) -> None:
    lines = table_named(tables, "fct_sale_line")
    assert (lines.column("customer_id").pii, lines.column("customer_id").classification) == (True, "confidential")
    # A key is made from the customer's number and would give it away, so dbt's YAML marks it.
    assert (lines.column("customer_key").pii, lines.column("customer_key").classification) == (True, "confidential")
    assert (lines.column("amount").pii, lines.column("amount").classification) == (False, "internal")
    assert lines.classification in ("confidential", "pii")
