"""What dbt's models read of orders."""

from __future__ import annotations

MODEL_TABLES = (
    "orders",
    "order_lines",
    "payments",
    "inventory",
    "stock_receipts",
    "stock_bookings",
    "delivery_schedule",
    "events",
)
"""The tables that models read over all order systems."""
