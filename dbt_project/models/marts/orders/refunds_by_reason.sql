select
    refund.source,
    (refund.occurred_at at time zone clocks.time_zone)::date as refund_day,
    coalesce(orders.cancel_reason, 'not cancelled yet') as reason,
    count(*) as refund_count,
    sum(payment.amount)::decimal(18, 2) as refunded_amount
from {{ source('order_system', 'events') }} as refund
join {{ source('order_system', 'orders') }} as orders
    on orders.source = refund.source and orders.order_id = refund.order_id
join {{ source('order_system', 'payments') }} as payment
    on payment.source = refund.source and payment.order_id = refund.order_id
join {{ source('order_system', 'clocks') }} as clocks on clocks.source = refund.source
where refund.event = 'refunded'
group by all
order by all
