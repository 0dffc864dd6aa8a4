with happened as (
    select
        source,
        order_id,
        any_value(order_day) as order_day,
        {%- for event in ['paid', 'booked', 'shipped', 'delivered', 'cancelled'] %}
        min(occurred_at) filter (event = '{{ event }}') as {{ event }}_at,
        {%- endfor %}
        count(*) filter (event = 'paid') as charge_count,
        count(*) filter (event = 'refunded') as refund_count
    from {{ ref('stg_order_event') }}
    group by all
),
content as (
    select source, order_id, count(*) as line_count, sum(quantity)::bigint as piece_count
    from {{ source('order_system', 'order_lines') }}
    group by all
)
select
    orders.source,
    orders.order_id,
    orders.customer_id as order_customer_id,
    happened.order_day,
    orders.order_date as ordered_at,
    orders.acknowledged_date as acknowledged_at,
    happened.paid_at,
    happened.booked_at,
    happened.shipped_at,
    happened.delivered_at,
    happened.cancelled_at,
    orders.order_status,
    payment.payment_method,
    payment.payment_status,
    delivery.status as delivery_status,
    delivery.delivery_service,
    orders.cancel_reason,
    content.line_count,
    content.piece_count,
    orders.payment_amount as order_amount,
    (payment.amount * happened.charge_count)::decimal(18, 2) as charged_amount,
    (payment.amount * happened.refund_count)::decimal(18, 2) as refunded_amount
from {{ source('order_system', 'orders') }} as orders
join happened on happened.source = orders.source and happened.order_id = orders.order_id
join content on content.source = orders.source and content.order_id = orders.order_id
join {{ source('order_system', 'payments') }} as payment
    on payment.source = orders.source and payment.order_id = orders.order_id
join {{ source('order_system', 'delivery_schedule') }} as delivery
    on delivery.source = orders.source and delivery.order_id = orders.order_id
order by orders.source, orders.order_id
