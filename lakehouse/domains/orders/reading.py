"""What people ask of orders: one in full, and lists."""

from __future__ import annotations

from typing import Any

from lakehouse.domains.orders.control import Desk, OrderRefused
from lakehouse.domains.orders.database.statements import RESERVED_FOR

STUCK = "attention IS NOT NULL OR (order_status IN ('Waiting', 'Pending', 'Processing') AND deadline_at < now())"
_LIST = f"""
SELECT * FROM (
    SELECT o.order_id, o.customer_id, o.order_status, o.payment_amount, p.payment_status, d.status AS delivery_status,
        o.acknowledged_date, o.deadline_at, o.attention
    FROM orders.orders o JOIN orders.payments p USING (order_id) JOIN orders.delivery_schedule d USING (order_id)
    UNION ALL
    SELECT order_id, (request ->> 'customer_id')::int, 'Waiting', (request ->> 'payment_amount')::numeric, 'Pending',
        'Not Scheduled', NULL, received_at + interval '{RESERVED_FOR}', attention
    FROM orders.waiting_requests
) AS found
"""
_PARTS = {
    "lines": "SELECT product_id, quantity, booking_status FROM orders.stock_bookings WHERE order_id = %s ORDER BY 1",
    "events": "SELECT event, occurred_at, body FROM orders.events WHERE order_id = %s ORDER BY seq",
    "notifications": "SELECT stage, notification_date, notification_text FROM orders.order_notifications "
    "WHERE order_id = %s ORDER BY notification_id",
}


def list_orders(desk: Desk, *, stuck: bool) -> list[dict[str, Any]]:
    """All orders by key, also those that wait for their acknowledgement; or those that need a person: marked ones, and
    unfinished ones after their deadline.
    """
    return _rows(desk, f"{_LIST} {f'WHERE {STUCK}' if stuck else ''} ORDER BY order_id")


def show_order(desk: Desk, key: str) -> dict[str, Any]:
    """An order with its lines, events and notifications; a request that isn't an order (yet) with its state.

    Raises:
        OrderRefused: there is no such order.
    """
    found = _rows(
        desk,
        "SELECT o.*, p.payment_method, p.payment_status, p.provider_reference, d.delivery_address, "
        "d.delivery_service, d.tracking_number, d.expected_delivery_date, d.status AS delivery_status "
        "FROM orders.orders o JOIN orders.payments p USING (order_id) JOIN orders.delivery_schedule d USING (order_id) "
        "WHERE order_id = %s",
        key,
    )
    if found:
        return {**found[0], **{name: _rows(desk, query, key) for name, query in _PARTS.items()}}
    waiting = _rows(
        desk,
        "SELECT order_id, 'Waiting' AS order_status, received_at, attention FROM orders.waiting_requests "
        "WHERE order_id = %s",
        key,
    )
    rejected = _rows(
        desk,
        "SELECT order_id, 'Rejected' AS order_status, reason, rejected_at FROM orders.rejected_requests "
        "WHERE order_id = %s ORDER BY rejection_id DESC LIMIT 1",
        key,
    )
    if not rejected and not waiting:
        raise OrderRefused(f"There is no order {key}")
    return (waiting or rejected)[0]


def _rows(desk: Desk, query: str, *arguments: object) -> list[dict[str, Any]]:
    from psycopg.rows import dict_row

    with desk.transaction() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode(), arguments).fetchall()
