"""What dbt's models read of banks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lakehouse.domains.banking.source import KIND, BankSource
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import literal

if TYPE_CHECKING:
    import duckdb

MODEL_TABLES = (
    "customer",
    "customer_type",
    "customer_status",
    "account_versions",
    "account_type",
    "account_status",
    "branch",
    "employee",
    "transaction",
    "transaction_type",
    "entry",
    "loan",
    "loan_type",
    "loan_payment",
    "balances_daily",
)
"""The tables that models read over all banks."""


def attach_clocks(
    sources: Sequence[BankSource], lake: Lake, connection: duckdb.DuckDBPyConnection, catalog: str
) -> None:
    """Makes the table `clocks`: the time zone of each bank."""
    connection.execute(f"CREATE TABLE {catalog}.{KIND}.clocks (source VARCHAR, time_zone VARCHAR)")
    for source in sources:
        named = f"{literal(source.name)}, {literal(source.days.zone)}"
        connection.execute(f"INSERT INTO {catalog}.{KIND}.clocks VALUES ({named})")
