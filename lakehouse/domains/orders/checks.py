"""Checks of the saga's rules on what the lake has of the orders, beside those of every captured database.

The same rules on the database itself are in `invariants`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from lakehouse.derive.captured_checks import capture_checks
from lakehouse.derive.checks import found, offenders, relation
from lakehouse.derive.source import Check, Finding, Partitions, Source
from lakehouse.domains.orders.invariants import EVENT_ORDER, Payment, charged_otherwise
from lakehouse.domains.orders.services import ServiceUnavailable, provider_statement
from lakehouse.ingest.postgres.captured import CapturedDatabase
from lakehouse.lake.contract import Contract
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Query, Relation, literal

Rule = Callable[..., Query]


def order_checks(of: CapturedDatabase, known: Mapping[str, Contract], services: Path) -> tuple[Check, ...]:
    """The checks of all tables.

    Args:
        known: the contracts of the tables.
        services: folder of the provider and the carrier.
    """
    provider = Check(
        "payments",
        "agrees_with_provider",
        "The provider charged and refunded what the orders say that have ended.",
        partial(_agrees_with_provider, services),
        blocking=True,
    )
    captured = [known[table.name] for table in of.tables]
    return (*capture_checks(of, captured), *(_check(*rule) for rule in _RULES), provider)


def other_money(orders: Relation, payments: Relation) -> Query:
    """Orders whose payment isn't what they are worth: charged - refunded = value shipped."""
    return Query(f"""
        SELECT o.order_id, o.order_status, p.payment_status, o.payment_amount, p.amount
        FROM {orders} AS o LEFT JOIN {payments} AS p USING (order_id)
        WHERE p.amount IS DISTINCT FROM o.payment_amount OR (o.order_status <> 'Processing'
            AND (p.payment_status = 'Paid') <> (o.order_status IN ('Shipped', 'Delivered')))
    """)


def other_stock(inventory: Relation, bookings: Relation, receipts: Relation) -> Query:
    """Products of which on hand + reserved + shipped isn't what was received."""
    return Query(f"""
        SELECT i.product_id, i.quantity, coalesce(b.held, 0) AS held, coalesce(r.received, 0) AS received
        FROM {inventory} AS i
        LEFT JOIN (SELECT product_id, sum(quantity) AS held FROM {bookings}
            WHERE booking_status <> 'Released' GROUP BY product_id) AS b USING (product_id)
        LEFT JOIN (SELECT product_id, sum(quantity) AS received FROM {receipts} GROUP BY product_id) AS r
            USING (product_id)
        WHERE i.quantity + coalesce(b.held, 0) <> coalesce(r.received, 0)
    """)


def negative_stock(inventory: Relation) -> Query:
    """Products with less than nothing on hand."""
    return Query(f"SELECT product_id, quantity FROM {inventory} WHERE quantity < 0")


def late_orders(orders: Relation) -> Query:
    """Orders that haven't ended by their deadline."""
    return Query(f"""
        SELECT order_id, order_status, deadline_at FROM {orders}
        WHERE order_status IN ('Pending', 'Processing') AND deadline_at < now()
    """)


def other_event_order(orders: Relation, events: Relation) -> Query:
    """Orders whose events don't follow each other as in the saga."""
    return Query(f"""
        SELECT o.order_id, coalesce(e.events, '') AS events FROM {orders} AS o LEFT JOIN (
            SELECT order_id, string_agg(event, ',' ORDER BY seq) AS events FROM {events} GROUP BY order_id
        ) AS e USING (order_id) WHERE NOT regexp_matches(coalesce(e.events, ''), {literal(EVENT_ORDER)})
    """)


def other_notifications(events: Relation, notifications: Relation) -> Query:
    """Stages of orders with no notification, or more than one, or one without the stage."""
    return Query(f"""
        SELECT order_id, e.event, n.stage, n.times FROM (SELECT order_id, event, event AS stage FROM {events}
            WHERE event IN ('acknowledged', 'paid', 'booked', 'shipped', 'cancelled')) AS e
        FULL JOIN (SELECT order_id, stage, count(*) AS times FROM {notifications} GROUP BY ALL) AS n
            USING (order_id, stage)
        WHERE e.event IS NULL OR n.times IS DISTINCT FROM 1
    """)


_RULES: tuple[tuple[str, str, str, Rule, tuple[str, ...], tuple[str, str]], ...] = (
    (
        "payments",
        "charged_is_shipped",
        "What was charged and not refunded is the value of what was shipped.",
        other_money,
        ("orders", "payments"),
        ("1 order isn't paid as it should be", "orders aren't paid as they should be"),
    ),
    (
        "inventory",
        "stock_is_conserved",
        "On hand + reserved + shipped is what was received.",
        other_stock,
        ("inventory", "stock_bookings", "stock_receipts"),
        ("1 product's stock isn't what was received", "products' stock isn't what was received"),
    ),
    (
        "inventory",
        "stock_not_negative",
        "No product has less than nothing on hand.",
        negative_stock,
        ("inventory",),
        ("1 product's stock is negative", "products' stock is negative"),
    ),
    (
        "orders",
        "ends_in_time",
        "Every order is shipped or cancelled by its deadline.",
        late_orders,
        ("orders",),
        ("1 order is late", "orders are late"),
    ),
    (
        "events",
        "follow_the_saga",
        "The events of an order follow each other as in the saga.",
        other_event_order,
        ("orders", "events"),
        ("1 order's events are out of order", "orders' events are out of order"),
    ),
    (
        "order_notifications",
        "one_per_stage",
        "Each stage of an order has one notification.",
        other_notifications,
        ("events", "order_notifications"),
        ("1 stage hasn't one notification", "stages haven't one notification"),
    ),
)


def _check(
    table: str, name: str, description: str, rule: Rule, inputs: tuple[str, ...], words: tuple[str, str]
) -> Check:
    return Check(table, name, description, partial(_found, rule, inputs, words), blocking=True)


def _found(
    rule: Rule, inputs: tuple[str, ...], words: tuple[str, str], lake: Lake, source: Source, partitions: Partitions
) -> Finding:
    query = rule(*(relation(lake, source, name, None) for name in inputs))
    return offenders(lake, query, "ALL", *words)


def _agrees_with_provider(services: Path, lake: Lake, source: Source, partitions: Partitions) -> Finding:
    try:
        statement = provider_statement(services)
    except ServiceUnavailable as error:
        return Finding(False, f"the statement can't be compared: {error}")
    if statement is None:
        return Finding(True, "there is no provider with a statement")
    orders, payments = (relation(lake, source, name, None) for name in ("orders", "payments"))
    with lake.connect() as connection:
        ended = connection.execute(
            f"SELECT order_id, amount, payment_status FROM {orders} JOIN {payments} USING (order_id) "
            "WHERE order_status NOT IN ('Pending', 'Processing') ORDER BY 1"
        ).fetchall()
    wrong = [{"order_id": order} for order in charged_otherwise((Payment(*row) for row in ended), statement)]
    said = ("1 order was charged otherwise", "orders were charged otherwise")
    return found(wrong, *said, charges=len(statement), orders=len(ended))
