"""The statements of the services (`steps`) that write several tables: one round trip each.

The parts of one statement don't see each other's rows, nor do their triggers; what has to is a statement of its own.
"""

from __future__ import annotations

RESERVED_FOR = "15 minutes"
"""How long a reservation lasts, and how long an order may take."""
# Rows are locked in the order of products, so that two orders never wait for each other in a circle.
_HOLD = "SELECT product_id, price FROM orders.inventory WHERE product_id = ANY (%(products)s) ORDER BY 1 FOR UPDATE"
HOLD = f"SELECT count(*) FROM ({_HOLD}) AS held"
"""Locks the stock of products, for the statements that follow. One statement can't lock it and take from it: PostgreSQL
computes an update, and checks it, on the row as it was when the statement began, before it turns to the row that
another one has committed since.
"""
_TAKE = """
WITH line AS (
    SELECT * FROM unnest(%(products)s::int[], %(quantities)s::int[]) AS line (product_id, quantity)
), short AS MATERIALIZED (
    SELECT min(line.product_id) AS product_id FROM line LEFT JOIN orders.inventory AS held USING (product_id)
    WHERE held.quantity IS NULL OR held.quantity < line.quantity
), taken AS (
    UPDATE orders.inventory i SET quantity = i.quantity - line.quantity FROM line, short
    WHERE i.product_id = line.product_id AND short.product_id IS NULL
)"""
TAKE = f"{_TAKE} SELECT product_id FROM short"
"""Takes stock of all lines, or of none; returns the first product of which there is too little, or NULL. The stock must
be held.
"""
ACKNOWLEDGE = f"""
{_TAKE}, made AS (
    INSERT INTO orders.orders (order_id, customer_id, order_date, order_status, payment_amount, deadline_at)
    SELECT order_id, %(customer)s, received_at, 'Pending', %(amount)s, clock_timestamp() + interval '{RESERVED_FOR}'
    FROM orders.requests, short WHERE order_id = %(order)s AND short.product_id IS NULL RETURNING order_id
), lines AS (
    INSERT INTO orders.order_lines (order_id, product_id, quantity)
    SELECT order_id, product_id, quantity FROM made, line
), bookings AS (
    INSERT INTO orders.stock_bookings (order_id, product_id, quantity, booking_status, expires_at)
    SELECT order_id, product_id, quantity, 'Reserved', clock_timestamp() + interval '{RESERVED_FOR}' FROM made, line
), payment AS (
    INSERT INTO orders.payments (order_id, amount, payment_method, payment_status)
    SELECT order_id, %(amount)s, %(method)s, 'Pending' FROM made
), delivery AS (
    INSERT INTO orders.delivery_schedule (order_id, delivery_address, status)
    SELECT order_id, %(address)s, 'Not Scheduled' FROM made
), event AS (
    INSERT INTO orders.events (order_id, event, body)
    SELECT order_id, 'acknowledged', jsonb_build_object('amount', %(amount)s::numeric) FROM made
), notified AS (
    INSERT INTO orders.order_notifications (order_id, stage, notification_text)
    SELECT order_id, 'acknowledged', %(text)s FROM made
)
SELECT product_id FROM short
"""
"""Takes the stock of all lines, which must be held, and makes the order; or neither, and returns a product of which
there is too little.
"""
KNOWN = f"""
SELECT (SELECT payment_amount::text FROM orders.orders WHERE order_id = %(order)s),
    (SELECT j.reason FROM orders.rejected_requests j JOIN orders.requests r USING (order_id, request)
     WHERE order_id = %(order)s ORDER BY j.rejection_id LIMIT 1),
    EXISTS (SELECT FROM orders.customers WHERE customer_id = %(customer)s),
    (SELECT jsonb_object_agg(product_id, price) FROM ({_HOLD}) AS held)
"""
"""What is known of a request. It holds the stock of its products."""
PAY = """
WITH new AS (
    INSERT INTO orders.events (order_id, event, body)
    VALUES (%(order)s, 'paid', jsonb_build_object('reference', %(reference)s::text))
    ON CONFLICT DO NOTHING RETURNING order_id
), payment AS (
    UPDATE orders.payments p SET payment_status = 'Paid', payment_date = clock_timestamp(),
        provider_reference = %(reference)s
    FROM new WHERE p.order_id = new.order_id
), moved AS (
    UPDATE orders.orders o SET order_status = 'Processing' FROM new WHERE o.order_id = new.order_id
), notified AS (
    INSERT INTO orders.order_notifications (order_id, stage, notification_text)
    SELECT order_id, 'paid', %(text)s FROM new
)
SELECT cancel_requested_at IS NOT NULL FROM orders.requests WHERE order_id = %(order)s
"""
BOOK = """
WITH state AS MATERIALIZED (
    SELECT (SELECT cancel_requested_at IS NOT NULL FROM orders.requests WHERE order_id = %(order)s) AS is_cancelled,
        (SELECT jsonb_object_agg(product_id, quantity) FROM orders.stock_bookings
         WHERE order_id = %(order)s AND booking_status = 'Released') AS expired
), new AS (
    INSERT INTO orders.events (order_id, event, body)
    SELECT %(order)s, 'booked', '{}'::jsonb FROM state WHERE NOT is_cancelled AND expired IS NULL
    ON CONFLICT DO NOTHING RETURNING order_id
), booked AS (
    UPDATE orders.stock_bookings b SET booking_status = 'Booked' FROM new WHERE b.order_id = new.order_id
), moved AS (
    UPDATE orders.orders o SET dispatched_at = clock_timestamp() FROM new WHERE o.order_id = new.order_id
), notified AS (
    INSERT INTO orders.order_notifications (order_id, stage, notification_text)
    SELECT order_id, 'booked', %(text)s FROM new
)
SELECT is_cancelled, expired FROM state
"""
SHIP = """
WITH new AS (
    INSERT INTO orders.events (order_id, event, body)
    VALUES (%(order)s, 'shipped', jsonb_build_object('tracking_number', %(tracking)s::text))
    ON CONFLICT DO NOTHING RETURNING order_id
), scheduled AS (
    UPDATE orders.delivery_schedule d SET status = 'Scheduled', tracking_number = %(tracking)s,
        delivery_service = %(service)s, expected_delivery_date = %(expected_on)s
    FROM new WHERE d.order_id = new.order_id
)
UPDATE orders.stock_bookings b SET booking_status = 'Shipped' FROM new WHERE b.order_id = new.order_id
"""
SHIPPED = """
WITH moved AS (
    UPDATE orders.orders SET order_status = 'Shipped', attention = NULL, attention_at = NULL
    WHERE order_id = %(order)s
), notified AS (
    INSERT INTO orders.order_notifications (order_id, stage, notification_text)
    VALUES (%(order)s, 'shipped', %(text)s)
)
SELECT EXISTS (SELECT FROM orders.carrier_events WHERE tracking_number = %(tracking)s)
"""
