"""What holds of the orders at every moment, as queries for the rows that break it; and the comparison with the
statements of the provider and the carrier.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from lakehouse.domains.orders.database.schema import ENGINE_SCHEMA

if TYPE_CHECKING:
    import psycopg

EVENT_ORDER = (
    "^acknowledged(,paid(,booked(,shipped(,in_transit)?(,delivery_failed)?(,delivered)?|,restocked(,refunded(,cancelled)?)?)?"
    "|,released(,refunded(,cancelled)?)?)?|,released(,cancelled)?)?$"
)
"""The events of an order, one after another."""
INVARIANTS = {
    "no request is lost": f"""
        SELECT order_id FROM orders.waiting_requests r
        WHERE NOT EXISTS (SELECT FROM {ENGINE_SCHEMA}.workflow_status w WHERE w.workflow_uuid = r.order_id
            AND w.status IN ('ENQUEUED', 'PENDING', 'DELAYED'))""",
    "stock is never negative": "SELECT product_id FROM orders.inventory WHERE quantity < 0",
    "on hand + reserved + shipped = received": """
        SELECT i.product_id FROM orders.inventory i
        WHERE i.quantity
            + (SELECT coalesce(sum(b.quantity), 0) FROM orders.stock_bookings b
               WHERE b.product_id = i.product_id AND b.booking_status <> 'Released')
            <> (SELECT coalesce(sum(r.quantity), 0) FROM orders.stock_receipts r WHERE r.product_id = i.product_id)""",
    "an order's lines are booked or given back": """
        SELECT order_id FROM orders.orders o WHERE (order_status IN ('Shipped', 'Delivered') AND EXISTS (
            SELECT FROM orders.order_lines l WHERE l.order_id = o.order_id AND NOT EXISTS (
                SELECT FROM orders.stock_bookings b WHERE b.order_id = l.order_id AND b.product_id = l.product_id
                AND b.quantity = l.quantity AND b.booking_status = 'Shipped')))
        OR (order_status = 'Cancelled' AND EXISTS (SELECT FROM orders.stock_bookings b
            WHERE b.order_id = o.order_id AND b.booking_status <> 'Released'))""",
    "charged - refunded = value shipped": """
        SELECT order_id FROM orders.orders o JOIN orders.payments p USING (order_id)
        WHERE p.amount <> o.payment_amount OR (o.order_status <> 'Processing'
            AND (p.payment_status = 'Paid') <> (o.order_status IN ('Shipped', 'Delivered')))""",
    "every order ends in time": """
        SELECT order_id FROM orders.orders WHERE order_status IN ('Pending', 'Processing') AND deadline_at < now()""",
    "events are in order": f"""
        SELECT order_id FROM orders.orders o WHERE coalesce((SELECT string_agg(event, ',' ORDER BY seq)
            FROM orders.events e WHERE e.order_id = o.order_id), '') !~ '{EVENT_ORDER}'""",
    "one notification a stage": """
        SELECT coalesce(e.order_id, n.order_id) FROM
            (SELECT order_id, event FROM orders.events
             WHERE event IN ('acknowledged', 'paid', 'booked', 'shipped', 'cancelled')) e
        FULL JOIN (SELECT order_id, stage, count(*) AS times FROM orders.order_notifications GROUP BY 1, 2) n
            ON n.order_id = e.order_id AND n.stage = e.event
        WHERE e.order_id IS NULL OR n.times IS DISTINCT FROM 1""",
}
"""Invariant -> query for the keys that break it."""
PROVIDER_AGREES = "the provider's statement agrees"
CARRIER_AGREES = "the carrier's statement agrees"
_ENDED = """
SELECT o.order_id, o.payment_amount, p.payment_status, d.tracking_number
FROM orders.orders o JOIN orders.payments p USING (order_id) JOIN orders.delivery_schedule d USING (order_id)
WHERE o.order_status NOT IN ('Pending', 'Processing')
"""


@dataclass(frozen=True)
class Payment:
    """The payment of an order that has ended."""

    order_id: str
    amount: Decimal
    status: str

    @property
    def expected(self) -> dict[str, Decimal]:
        """What the provider has to say of it."""
        made = {"Paid": ("charge",), "Refunded": ("charge", "refund")}.get(self.status, ())
        return dict.fromkeys(made, self.amount)


def broken_invariants(connection: psycopg.Connection) -> dict[str, list[str]]:
    """Each invariant with the keys that break it."""
    return {name: [str(key) for (key,) in connection.execute(query.encode())] for name, query in INVARIANTS.items()}


def disagreements(
    connection: psycopg.Connection, charges: Iterable[Mapping[str, Any]], deliveries: Iterable[Mapping[str, Any]]
) -> dict[str, list[str]]:
    """The orders that have ended of which the provider or the carrier says something else.

    Args:
        charges: the provider's statement.
        deliveries: the carrier's statement.
    """
    accepted = {row["order_id"]: row["body"] for row in deliveries if row["status"] == 200}
    ended = connection.execute(_ENDED).fetchall()
    return {
        PROVIDER_AGREES: charged_otherwise((Payment(*row[:3]) for row in ended), charges),
        CARRIER_AGREES: [
            order
            for order, _, _, tracking in ended
            if (tracking is not None) != (order in accepted)
            or (tracking is not None and tracking not in accepted[order])
        ],
    }


def charged_otherwise(ended: Iterable[Payment], charges: Iterable[Mapping[str, Any]]) -> list[str]:
    """The orders whose money isn't what the provider's statement says: charged once, and refunded once where it was."""
    money: dict[str, dict[str, Decimal]] = {}
    for row in charges:
        if row["status"] == 200 and row["kind"] in ("charge", "refund"):
            money.setdefault(row["order_id"], {})[row["kind"]] = Decimal(row["amount"])
    return [payment.order_id for payment in ended if money.get(payment.order_id, {}) != payment.expected]
