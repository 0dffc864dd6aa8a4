"""A shop's orders for tests: its database, requests, and the steps that an order goes through."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import psycopg

from lakehouse.domains.orders.control import initialize, open_desk
from lakehouse.domains.orders.database import steps
from lakehouse.domains.orders.database.requests import request_of
from lakehouse.servers.postgres import Database, Place

NOWHERE = Path("/nonexistent")
"""The folder of an embedded server that isn't used, since the URL of another is given."""


def place_of(database: Database) -> Place:
    return Place(NOWHERE, database.url)


def make_shop(database: Database) -> None:
    """Makes the tables in an empty database."""
    initialize(place_of(database))


def request(key: str, **members: Any) -> dict[str, Any]:
    """The original's order under a key, as a client sends it."""
    return {
        "key": key,
        "customer_id": 1,
        "products": {"1": 1, "2": 3},
        "payment_amount": 2000,
        "delivery_address": "Broadway 456",
        **members,
    }


def submit(database: Database, *requests: dict[str, Any]) -> list[str]:
    """Hands requests in, and returns what became of each."""
    with open_desk(place_of(database)) as desk:
        return [answer.status for answer in desk.submit(request_of(each) for each in requests)]


def run_to(connection: psycopg.Connection, key: str, last: str) -> None:
    """Takes a submitted order through the services up to one of them, as the saga does."""
    assert isinstance(steps.acknowledge(connection, key), steps.Acknowledged)
    if last == "acknowledged":
        return
    assert not steps.pay(connection, key, f"ch_{key}")
    if last == "paid":
        return
    assert steps.book(connection, key) == "booked"
    if last == "booked":
        return
    steps.ship(connection, key, f"DHL-{key}", "DHL", date(2026, 12, 2))


def stock(connection: psycopg.Connection) -> dict[int, int]:
    return dict(connection.execute("SELECT product_id, quantity FROM orders.inventory").fetchall())


def empty_shop(database: Database) -> None:
    """Removes all orders, and fills the stock as it was at first."""
    with database.connect() as connection:
        connection.execute(
            "SET LOCAL session_replication_role = replica; "
            "TRUNCATE orders.requests, orders.rejected_requests, orders.carrier_events, orders.notice_relay CASCADE; "
            "TRUNCATE orders_engine.workflow_status, orders_engine.workflow_input, orders_engine.operation_outputs "
            "CASCADE; "
            "DELETE FROM orders.stock_receipts WHERE receipt_key NOT LIKE 'opening %'; "
            "UPDATE orders.inventory i SET price = NULL, quantity = r.quantity "
            "FROM orders.stock_receipts r WHERE r.product_id = i.product_id"
        )
