"""What each service does for an order, in the caller's transaction: state, event and notification together.

Every function takes a connection and an order's id, knows no engine, and does nothing when it is repeated: the event's
unique key (order, event) decides. The database guards the transitions between statuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from lakehouse.domains.orders.database import statements
from lakehouse.domains.orders.database.tracking import lock_tracking, move_delivery

if TYPE_CHECKING:
    import psycopg

RECEIVED = "Your order has been received and is currently being processed."
PAID = "Payment for your order has been successfully processed."
BOOKED = "Stock for your order has been booked and is being prepared for shipment."
SHIPPED = "Your order has been shipped and is on its way to the delivery address."
PAYMENT_FAILED = "There was an issue processing your payment. Please contact customer support for assistance."
FAILED = "Your order could not be processed due to an unexpected error. Please contact customer support for assistance."


@dataclass(frozen=True)
class Acknowledged:
    """An order that was taken on: what its payment needs."""

    amount: str
    method: str


@dataclass(frozen=True)
class Rejected:
    """A request that didn't become an order."""

    reason: str


def acknowledge(connection: psycopg.Connection, order_id: str) -> Acknowledged | Rejected:
    """Takes on an order and reserves its stock, all lines or none; a request that can't be met is rejected."""
    found = connection.execute(
        "SELECT request, cancel_requested_at FROM orders.requests WHERE order_id = %s FOR UPDATE", [order_id]
    ).fetchone()
    if found is None:
        return Rejected("there is no such request")
    request, cancelled_at = found
    method = request.get("payment_method", "Credit Card")
    lines = {int(product): quantity for product, quantity in request["products"].items()}
    # By a statement of its own, which sees what was committed before the lock was had.
    known = connection.execute(
        statements.KNOWN, {"order": order_id, "customer": request["customer_id"], "products": list(lines)}
    ).fetchone()
    assert known is not None
    amount, earlier, has_customer, prices = known
    if amount is not None:
        return Acknowledged(amount, method)
    if earlier is not None:
        return Rejected(earlier)
    amount = Decimal(str(request["payment_amount"]))
    if cancelled_at:
        fault: str | None = "it was cancelled before its acknowledgement"
    else:
        fault = _fault(request, lines, prices or {}, has_customer=has_customer)
    if fault is None:
        made = connection.execute(
            statements.ACKNOWLEDGE,
            {
                "order": order_id,
                "customer": request["customer_id"],
                "amount": amount,
                "products": list(lines),
                "quantities": list(lines.values()),
                "method": method,
                "address": request["delivery_address"],
                "text": RECEIVED,
            },
        )
        fault = _short(made)
    if fault is not None:
        reject(connection, order_id, request, fault)
        return Rejected(fault)
    return Acknowledged(str(amount), method)


def reject(connection: psycopg.Connection, order_id: str | None, request: Any, reason: str) -> None:
    """Keeps a request that doesn't become an order, with the reason."""
    from psycopg.types.json import Jsonb

    connection.execute(
        "INSERT INTO orders.rejected_requests (order_id, request, reason) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        [order_id, Jsonb(request), reason],
    )


def pay(connection: psycopg.Connection, order_id: str, reference: str) -> bool:
    """Books a charge that the provider confirmed; returns whether the customer has asked to cancel."""
    found = connection.execute(statements.PAY, {"order": order_id, "reference": reference, "text": PAID}).fetchone()
    return found is not None and bool(found[0])


def book(connection: psycopg.Connection, order_id: str) -> Literal["booked", "cancelled", "out of stock"]:
    """Turns the reservation into a booking, the last moment at which a customer may still have cancelled."""
    # The lock first: the next statement sees a wish to cancel that was committed meanwhile.
    connection.execute("SELECT FROM orders.orders WHERE order_id = %s FOR UPDATE", [order_id])
    is_cancelled, expired = _book(connection, order_id)
    if is_cancelled:
        return "cancelled"
    if expired:
        lines = {"products": [int(product) for product in expired], "quantities": list(expired.values())}
        connection.execute(statements.HOLD, lines)
        if _short(connection.execute(statements.TAKE, lines)):
            return "out of stock"
        connection.execute(
            "UPDATE orders.stock_bookings SET booking_status = 'Reserved' WHERE order_id = %s "
            "AND booking_status = 'Released'",
            [order_id],
        )
        _book(connection, order_id)
    return "booked"


def _book(connection: psycopg.Connection, order_id: str) -> tuple[bool, dict[str, int] | None]:
    """Books, unless the customer has asked to cancel, or lines have expired; returns both."""
    found = connection.execute(statements.BOOK, {"order": order_id, "text": BOOKED}).fetchone()
    assert found is not None
    return bool(found[0]), found[1]


def ship(connection: psycopg.Connection, order_id: str, tracking: str, service: str, expected_on: date) -> None:
    """Schedules the delivery that the carrier accepted: the order's good end. What the carrier said of it since is
    taken up.
    """
    lock_tracking(connection, tracking)
    new = connection.execute(
        statements.SHIP,
        {
            "order": order_id,
            "tracking": tracking,
            "service": service,
            "expected_on": expected_on,
        },
    )
    if new.rowcount:
        # After the statement before, as the guard of this status looks at the bookings.
        said = connection.execute(
            statements.SHIPPED, {"order": order_id, "tracking": tracking, "text": SHIPPED}
        ).fetchone()
        if said is not None and said[0]:
            move_delivery(connection, tracking)


def release(connection: psycopg.Connection, order_id: str, event: Literal["released", "restocked"]) -> None:
    """Gives back reserved (`released`) or booked stock (`restocked`)."""
    if _is_new(connection, order_id, event, {}):
        _give_back(connection, order_id, "true")


def refund(connection: psycopg.Connection, order_id: str, reference: str) -> None:
    """Books a refund that the provider confirmed."""
    if _is_new(connection, order_id, "refunded", {"reference": reference}):
        connection.execute("UPDATE orders.payments SET payment_status = 'Refunded' WHERE order_id = %s", [order_id])


def cancel(connection: psycopg.Connection, order_id: str, reason: str, text: str) -> None:
    """Ends an order of which everything has been given back."""
    if _is_new(connection, order_id, "cancelled", {"reason": reason}):
        connection.execute(
            "UPDATE orders.payments SET payment_status = 'Failed' WHERE order_id = %s AND payment_status = 'Pending'",
            [order_id],
        )
        connection.execute("UPDATE orders.delivery_schedule SET status = 'Failed' WHERE order_id = %s", [order_id])
        connection.execute(
            "UPDATE orders.orders SET order_status = 'Cancelled', cancel_reason = %s, attention = NULL, "
            "attention_at = NULL WHERE order_id = %s",
            [reason, order_id],
        )
        _notify(connection, order_id, "cancelled", text)


def request_cancel(connection: psycopg.Connection, order_id: str) -> str | None:
    """Notes a customer's wish to cancel, if it isn't too late; returns why it is refused, or None.

    The row locks decide: `acknowledge` takes the request's, `book` the order's, which is the last that can be
    overtaken.
    """
    found = connection.execute("SELECT FROM orders.requests WHERE order_id = %s FOR UPDATE", [order_id]).fetchone()
    if found is None:
        return "there is no such order"
    order = connection.execute(
        "SELECT order_status, dispatched_at FROM orders.orders WHERE order_id = %s FOR UPDATE", [order_id]
    ).fetchone()
    if order is not None and (order[0] not in ("Pending", "Processing") or order[1] is not None):
        return f"it is {order[0]}" if order[0] not in ("Pending", "Processing") else "it was handed to the carrier"
    connection.execute(
        "UPDATE orders.requests SET cancel_requested_at = clock_timestamp() "
        "WHERE order_id = %s AND cancel_requested_at IS NULL",
        [order_id],
    )
    return None


def need_attention(connection: psycopg.Connection, order_id: str, why: str) -> None:
    """Marks an order, or a request that waits for its acknowledgement, for a person, once for a reason; one that has
    ended needs none.
    """
    connection.execute(
        "WITH waiting AS (UPDATE orders.requests r SET attention = %(why)s, attention_at = clock_timestamp() "
        "FROM orders.waiting_requests w WHERE w.order_id = r.order_id AND r.order_id = %(order)s "
        "AND r.attention IS DISTINCT FROM %(why)s) "
        "UPDATE orders.orders SET attention = %(why)s, attention_at = clock_timestamp() WHERE order_id = %(order)s "
        "AND order_status IN ('Pending', 'Processing') AND attention IS DISTINCT FROM %(why)s",
        {"order": order_id, "why": why},
    )


def clear_attention(connection: psycopg.Connection, order_id: str) -> None:
    """Takes the mark off, as a person has looked at it."""
    connection.execute(
        "WITH waiting AS (UPDATE orders.requests SET attention = NULL, attention_at = NULL WHERE order_id = %(order)s "
        "AND attention IS NOT NULL) "
        "UPDATE orders.orders SET attention = NULL, attention_at = NULL WHERE order_id = %(order)s "
        "AND attention IS NOT NULL",
        {"order": order_id},
    )


def release_expired(connection: psycopg.Connection) -> bool:
    """Gives back what one unpaid order has reserved beyond its time; returns whether there was one.

    One order a transaction: several would lock their products in no common order.
    """
    found = connection.execute(
        "SELECT o.order_id FROM orders.orders o WHERE o.order_status = 'Pending' AND EXISTS (SELECT FROM "
        "orders.stock_bookings b WHERE b.order_id = o.order_id AND b.booking_status = 'Reserved' "
        "AND b.expires_at < clock_timestamp()) ORDER BY 1 LIMIT 1 FOR UPDATE SKIP LOCKED"
    ).fetchone()
    return found is not None and _give_back(connection, found[0], "booking_status = 'Reserved'") > 0


def restock(connection: psycopg.Connection, key: str, product: int, quantity: int) -> bool:
    """Takes in stock from a supplier, once per key; returns whether the key was new."""
    new = connection.execute(
        "INSERT INTO orders.stock_receipts (receipt_key, product_id, quantity) VALUES (%s, %s, %s) "
        "ON CONFLICT DO NOTHING",
        [key, product, quantity],
    )
    if new.rowcount:
        connection.execute(
            "UPDATE orders.inventory SET quantity = quantity + %s WHERE product_id = %s", [quantity, product]
        )
    return bool(new.rowcount)


def _fault(
    request: Mapping[str, Any], lines: Mapping[int, int], prices: Mapping[str, Any], *, has_customer: bool
) -> str | None:
    """Why a well-formed request can't be met, or None."""
    if not has_customer:
        return f"customer {request['customer_id']} is unknown"
    if unknown := [product for product in sorted(lines) if str(product) not in prices]:
        return f"product {unknown[0]} is unknown"
    if all(prices[str(product)] is not None for product in lines):
        total = sum(Decimal(str(prices[str(product)])) * quantity for product, quantity in lines.items())
        if total != Decimal(str(request["payment_amount"])):
            return f"the products cost {total}, and not {request['payment_amount']}"
    return None


def _short(taken: psycopg.Cursor) -> str | None:
    """Why stock couldn't be taken, by the answer of `TAKE` or `ACKNOWLEDGE`; None if it was."""
    found = taken.fetchone()
    assert found is not None
    return None if found[0] is None else f"product {found[0]} is out of stock"


def _give_back(connection: psycopg.Connection, order_id: str, which: str) -> int:
    held = connection.execute(
        "SELECT product_id, quantity FROM orders.stock_bookings "
        f"WHERE order_id = %s AND booking_status <> 'Released' AND {which} ORDER BY product_id".encode(),
        [order_id],
    ).fetchall()
    for product, quantity in held:
        connection.execute(
            "UPDATE orders.inventory SET quantity = quantity + %s WHERE product_id = %s", [quantity, product]
        )
    connection.execute(
        f"UPDATE orders.stock_bookings SET booking_status = 'Released' WHERE order_id = %s AND {which}".encode(),
        [order_id],
    )
    return len(held)


def _cancel_requested(connection: psycopg.Connection, order_id: str) -> bool:
    found = connection.execute(
        "SELECT FROM orders.requests WHERE order_id = %s AND cancel_requested_at IS NOT NULL", [order_id]
    )
    return found.fetchone() is not None


def _is_new(connection: psycopg.Connection, order_id: str, event: str, body: Mapping[str, Any]) -> bool:
    """Records an event; False if the order has had it."""
    from psycopg.types.json import Jsonb

    made = connection.execute(
        "INSERT INTO orders.events (order_id, event, body) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        [order_id, event, Jsonb(body)],
    )
    return bool(made.rowcount)


def _notify(connection: psycopg.Connection, order_id: str, stage: str, text: str) -> None:
    connection.execute(
        "INSERT INTO orders.order_notifications (order_id, stage, notification_text) VALUES (%s, %s, %s)",
        [order_id, stage, text],
    )
