-- A status moves only as listed here, for every writer; an empty old status stands for a new row.
CREATE FUNCTION orders.guard_transition() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    allowed text[] := TG_ARGV[1]::text[];
    before text := '';
    after text := to_jsonb(NEW) ->> TG_ARGV[0];
BEGIN
    IF TG_OP = 'UPDATE' THEN
        before := to_jsonb(OLD) ->> TG_ARGV[0];
    END IF;
    IF before IS DISTINCT FROM after AND NOT (before || '>' || after) = ANY (allowed) THEN
        RAISE EXCEPTION '% of order % can''t go from "%" to "%"', TG_ARGV[0], NEW.order_id, before, after
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER guard BEFORE INSERT OR UPDATE OF order_status ON orders.orders
    FOR EACH ROW EXECUTE FUNCTION orders.guard_transition('order_status',
    '{>Pending,Pending>Processing,Pending>Cancelled,Processing>Cancelled,Processing>Shipped,Shipped>Delivered}');
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OF payment_status ON orders.payments
    FOR EACH ROW EXECUTE FUNCTION orders.guard_transition('payment_status',
    '{>Pending,Pending>Paid,Pending>Failed,Paid>Refunded}');
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OF status ON orders.delivery_schedule
    FOR EACH ROW EXECUTE FUNCTION orders.guard_transition('status',
    '{>Not Scheduled,Not Scheduled>Scheduled,Not Scheduled>Failed,Scheduled>In Transit,Scheduled>Delivered,'
    'Scheduled>Failed,In Transit>Delivered,In Transit>Failed}');
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OF booking_status ON orders.stock_bookings
    FOR EACH ROW EXECUTE FUNCTION orders.guard_transition('booking_status',
    '{>Reserved,Reserved>Booked,Reserved>Released,Released>Reserved,Booked>Shipped,Booked>Released}');

-- An order is shipped only when it is paid, and cancelled only when nothing of its money or stock is kept.
CREATE FUNCTION orders.guard_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.order_status = 'Shipped' AND (
        NOT EXISTS (SELECT FROM orders.payments WHERE order_id = NEW.order_id AND payment_status = 'Paid')
        OR EXISTS (SELECT FROM orders.stock_bookings WHERE order_id = NEW.order_id AND booking_status <> 'Shipped')
    ) THEN
        RAISE EXCEPTION 'order % is not paid and booked, so it can''t be shipped', NEW.order_id
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.order_status = 'Cancelled' AND (
        EXISTS (SELECT FROM orders.payments WHERE order_id = NEW.order_id AND payment_status IN ('Paid', 'Pending'))
        OR EXISTS (SELECT FROM orders.stock_bookings WHERE order_id = NEW.order_id AND booking_status <> 'Released')
    ) THEN
        RAISE EXCEPTION 'order % has money or stock to give back, so it can''t be cancelled', NEW.order_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_end BEFORE UPDATE OF order_status ON orders.orders
    FOR EACH ROW WHEN (OLD.order_status IS DISTINCT FROM NEW.order_status) EXECUTE FUNCTION orders.guard_end();

CREATE FUNCTION orders.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed', TG_TABLE_NAME USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON orders.outbox
    FOR EACH ROW EXECUTE FUNCTION orders.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON orders.stock_receipts
    FOR EACH ROW EXECUTE FUNCTION orders.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON orders.order_lines
    FOR EACH ROW EXECUTE FUNCTION orders.refuse_change();
