-- What the carrier says of deliveries, by its own number of each event; also of those whose order isn't shipped here yet.
CREATE TABLE orders.carrier_events (
    event_id text PRIMARY KEY CHECK (event_id <> '' AND length(event_id) <= 200),
    tracking_number text NOT NULL,
    status text NOT NULL CHECK (status IN ('In Transit', 'Delivered', 'Failed')),
    occurred_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON orders.carrier_events (tracking_number);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON orders.carrier_events
    FOR EACH ROW EXECUTE FUNCTION orders.refuse_change();

-- A carrier tries again after a failed delivery.
DROP TRIGGER guard ON orders.delivery_schedule;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OF status ON orders.delivery_schedule
    FOR EACH ROW EXECUTE FUNCTION orders.guard_transition('status',
    '{>Not Scheduled,Not Scheduled>Scheduled,Not Scheduled>Failed,Scheduled>In Transit,Scheduled>Delivered,'
    'Scheduled>Failed,In Transit>Delivered,In Transit>Failed,Failed>Delivered}');
