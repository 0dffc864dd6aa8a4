"""What the carrier says of deliveries after it accepted them: reads its events, and moves deliveries by them.

A delivery goes Scheduled, In Transit, Failed, Delivered, and never back: events that are repeated, or come late, change
nothing, and in whatever order they come the delivery ends in the same status. A failed delivery marks its order for a
person, since nothing is compensated after the carrier's acceptance; the carrier may still deliver it. An event that
overtakes the acceptance waits for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import psycopg

_EVENTS = {"In Transit": "in_transit", "Failed": "delivery_failed", "Delivered": "delivered"}
"""Status -> event of the order, in the order in which a delivery may come to them."""
_RANK = {status: rank for rank, status in enumerate(("Scheduled", *_EVENTS))}
_MEMBERS = ("event_id", "tracking_number", "status", "occurred_at")
_LONGEST = 200

Tracking = Literal["applied", "late", "waiting", "replayed"]
"""What became of an event: it moved its delivery; came behind others; waits for its order; or was known."""


@dataclass(frozen=True)
class CarrierEvent:
    """An event as the carrier sent it."""

    event_id: str
    tracking_number: str
    status: str
    occurred_at: datetime


def read_carrier_event(text: str) -> CarrierEvent | str:
    """Reads a line of JSON; returns the event, or what is wrong with it."""
    try:
        document = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return "the line is no JSON"
    return carrier_event_of(document) if isinstance(document, dict) else "the line is no JSON object"


def carrier_event_of(document: Mapping[str, Any]) -> CarrierEvent | str:
    """The event in an object {"event_id", "tracking_number", "status", "occurred_at"}, or what is wrong with it."""
    if unknown := sorted(set(document) - {*_MEMBERS}):
        return f"{unknown[0]} is no member of an event; they are {', '.join(_MEMBERS)}"
    for member in _MEMBERS:
        value = document.get(member)
        if not isinstance(value, str) or not 0 < len(value) <= _LONGEST or not value.isprintable():
            return f"{member} has to be printable text of at most {_LONGEST} characters"
    if document["status"] not in _EVENTS:
        return f"status has to be one of {', '.join(_EVENTS)}"
    try:
        occurred_at = datetime.fromisoformat(document["occurred_at"])
    except ValueError:
        return "occurred_at has to be a time such as 2026-03-01T12:00:00Z"
    if occurred_at.tzinfo is None:
        return "occurred_at has to name its time zone, such as Z"
    return CarrierEvent(document["event_id"], document["tracking_number"], document["status"], occurred_at)


def track(connection: psycopg.Connection, event: CarrierEvent) -> Tracking | None:
    """Keeps an event, and moves its delivery; None if its number belongs to another event."""
    lock_tracking(connection, event.tracking_number)
    row = [event.event_id, event.tracking_number, event.status, event.occurred_at]
    new = connection.execute(
        "INSERT INTO orders.carrier_events (event_id, tracking_number, status, occurred_at) VALUES (%s, %s, %s, %s) "
        "ON CONFLICT DO NOTHING",
        row,
    )
    if new.rowcount:
        return move_delivery(connection, event.tracking_number)
    same = connection.execute(
        "SELECT FROM orders.carrier_events WHERE event_id = %s AND tracking_number = %s AND status = %s "
        "AND occurred_at = %s",
        row,
    ).fetchone()
    return None if same is None else "replayed"


def lock_tracking(connection: psycopg.Connection, tracking_number: str) -> None:
    """Lets the carrier's acceptance and its events of one delivery wait for each other, so that none misses the other
    by a moment.
    """
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"delivery {tracking_number}"])


def move_delivery(connection: psycopg.Connection, tracking_number: str) -> Literal["applied", "late", "waiting"]:
    """Moves a delivery, whose lock is held, to what its events say."""
    from psycopg.types.json import Jsonb

    found = connection.execute(
        "SELECT order_id, status FROM orders.delivery_schedule WHERE tracking_number = %s FOR UPDATE", [tracking_number]
    ).fetchone()
    if found is None:
        return "waiting"
    order_id, before = found
    said = connection.execute(
        "SELECT status, min(occurred_at), min(event_id) FROM orders.carrier_events WHERE tracking_number = %s "
        "GROUP BY status",
        [tracking_number],
    ).fetchall()
    news = sorted((each for each in said if _RANK[each[0]] > _RANK[before]), key=lambda each: _RANK[each[0]])
    for status, occurred_at, event_id in news:
        connection.execute(
            "INSERT INTO orders.events (order_id, event, body) VALUES (%s, %s, %s)",
            [order_id, _EVENTS[status], Jsonb({"occurred_at": occurred_at.isoformat(), "carrier_event": event_id})],
        )
        connection.execute("UPDATE orders.delivery_schedule SET status = %s WHERE order_id = %s", [status, order_id])
    if not news:
        return "late"
    attention = "the carrier couldn't deliver it" if news[-1][0] == "Failed" else None
    connection.execute(
        "UPDATE orders.orders SET order_status = %s, attention = %s, "
        "attention_at = CASE WHEN %s::text IS NOT NULL THEN clock_timestamp() END WHERE order_id = %s",
        ["Delivered" if news[-1][0] == "Delivered" else "Shipped", attention, attention, order_id],
    )
    return "applied"
