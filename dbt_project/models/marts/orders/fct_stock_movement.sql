-- A reservation that ran out of time has no event; it was given back when it expired.
with booking as (
    select booked.*, given_back.occurred_at as given_back_at
    from {{ source('order_system', 'stock_bookings') }} as booked
    left join {{ source('order_system', 'events') }} as given_back
        on given_back.source = booked.source and given_back.order_id = booked.order_id
        and given_back.event in ('released', 'restocked')
),
movement as (
    select source, 'received' as movement, receipt_key as reference, null as order_id, product_id,
        received_at as moved_at, quantity as quantity_change
    from {{ source('order_system', 'stock_receipts') }}
    union all
    select source, 'reserved', booking_id::varchar, order_id, product_id, booking_date, -quantity
    from booking
    union all
    select source, 'given back', booking_id::varchar, order_id, product_id, coalesce(given_back_at, expires_at), quantity
    from booking where booking_status = 'Released'
)
select
    movement.source,
    movement.movement,
    movement.reference,
    movement.order_id,
    movement.product_id,
    product.product_name,
    (movement.moved_at at time zone clocks.time_zone)::date as day,
    movement.moved_at,
    movement.quantity_change
from movement
join {{ source('order_system', 'inventory') }} as product
    on product.source = movement.source and product.product_id = movement.product_id
join {{ source('order_system', 'clocks') }} as clocks on clocks.source = movement.source
order by movement.source, movement.moved_at, movement.movement, movement.reference
