-- Why a person has to look at a request that isn't acknowledged; that of an order is the order's.
ALTER TABLE orders.requests ADD COLUMN attention text, ADD COLUMN attention_at timestamptz;

-- Requests that are neither an order yet nor rejected. Another request under the same key may have been rejected.
CREATE VIEW orders.waiting_requests AS
SELECT r.* FROM orders.requests r
WHERE NOT EXISTS (SELECT FROM orders.orders o WHERE o.order_id = r.order_id)
AND NOT EXISTS (SELECT FROM orders.rejected_requests j WHERE j.order_id = r.order_id AND j.request = r.request);
