"""What dbt's models read of banks."""

from __future__ import annotations

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
