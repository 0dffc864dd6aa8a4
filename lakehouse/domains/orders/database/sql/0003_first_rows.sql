-- The customers and products that every shop begins with.
INSERT INTO orders.customers (customer_name, email) VALUES
    ('Ada Lindqvist', 'ada.lindqvist@example.com'),
    ('Ben Okafor', 'ben.okafor@example.com'),
    ('Clara Rossi', 'clara.rossi@example.com'),
    ('David Novak', 'david.novak@example.com'),
    ('Elif Demir', 'elif.demir@example.com');

INSERT INTO orders.inventory (product_name, quantity) VALUES
    ('Product A', 100), ('Product B', 50), ('Product C', 200), ('Product D', 75), ('Product E', 150);

INSERT INTO orders.stock_receipts (receipt_key, product_id, quantity)
    SELECT 'opening ' || product_id, product_id, quantity FROM orders.inventory;
