-- What became of notices that were given to a sink (`notices`): sent, or refused with the reason. A notice without a row
-- waits.
CREATE TABLE orders.notices_sent (
    notification_id bigint PRIMARY KEY REFERENCES orders.order_notifications,
    sent_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    refusal text
);

-- From when on notices go to a sink; all with a lower number than `settled` have.
CREATE TABLE orders.notice_relay (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    settled bigint NOT NULL DEFAULT 0
);
