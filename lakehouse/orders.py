"""Hands in orders, and the carrier's events, from Python: `from lakehouse import orders; orders.submit([...])`.

They go to the database of this installation's settings, as by `lakehouse orders submit` and `track`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lakehouse.catalog import database_place
from lakehouse.domains.orders.control import Submitted, Tracked, open_desk
from lakehouse.domains.orders.database.requests import request_of
from lakehouse.domains.orders.database.tracking import carrier_event_of
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


def track(events: Iterable[Mapping[str, Any]]) -> list[Tracked]:
    """Takes in events of the carrier such as {"event_id", "tracking_number", "status", "occurred_at"}, where the status
    is In Transit, Delivered or Failed.

    Returns:
        What became of each: applied; late, behind what the delivery had come to; waiting, where no order has the
        tracking number yet; replayed, where the event was known; or refused, with the error.

    Raises:
        DatabaseUnavailable: the server can't be started or reached, or it has no orders.
    """
    with open_desk(database_place(settings())) as desk:
        return list(desk.track(carrier_event_of(event) for event in events))
