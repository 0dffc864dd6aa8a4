"""Hands in orders from Python: `from lakehouse import orders; orders.submit([...])`.

They go to the database of this installation's settings, as by `lakehouse orders submit`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lakehouse.catalog import database_place
from lakehouse.domains.orders.control import Submitted, open_desk
from lakehouse.domains.orders.database.requests import request_of
from lakehouse.settings import settings


def submit(requests: Iterable[Mapping[str, Any]]) -> list[Submitted]:
    """Hands in requests such as {"key", "customer_id", "products": {"1": 1}, "payment_amount", "delivery_address"}.

    Returns:
        What became of each: submitted; replayed, where the key and the request were known; or refused, with the error.

    Raises:
        DatabaseUnavailable: the server can't be started or reached, or it has no orders.
    """
    with open_desk(database_place(settings())) as desk:
        return list(desk.submit(request_of(request) for request in requests))
