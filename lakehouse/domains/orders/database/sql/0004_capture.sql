-- The lake captures the outbox as orders.events; `outbox` stays a name for it.
ALTER TABLE orders.outbox RENAME TO events;
CREATE VIEW orders.outbox AS SELECT * FROM orders.events;

-- The capture reads whole rows from the log, before and after each change.
DO $$
DECLARE
    captured regclass;
BEGIN
    FOREACH captured IN ARRAY ARRAY['orders.orders', 'orders.order_lines', 'orders.payments', 'orders.inventory',
        'orders.stock_receipts', 'orders.stock_bookings', 'orders.delivery_schedule', 'orders.order_notifications',
        'orders.events', 'orders.rejected_requests']::regclass[] LOOP
        EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', captured);
    END LOOP;
END $$;
ALTER TABLE orders.rejected_requests DROP CONSTRAINT rejected_requests_order_id_digest_reason_key, DROP COLUMN digest;
CREATE UNIQUE INDEX rejected_once ON orders.rejected_requests (order_id, md5(request::text), reason)
    NULLS NOT DISTINCT;
CREATE PUBLICATION lakehouse_orders FOR TABLE
    orders.orders, orders.order_lines, orders.payments, orders.inventory, orders.stock_receipts, orders.stock_bookings,
    orders.delivery_schedule, orders.order_notifications, orders.events, orders.rejected_requests;
