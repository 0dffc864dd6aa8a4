-- Events of orders with the one that followed, and the day of the order on the clock of its source.
select
    event.source,
    event.order_id,
    (orders.order_date at time zone clocks.time_zone)::date as order_day,
    event.event,
    event.occurred_at,
    lead(event.event) over following as next_event,
    lead(event.occurred_at) over following as next_at
from {{ source('order_system', 'events') }} as event
join {{ source('order_system', 'orders') }} as orders
    on orders.source = event.source and orders.order_id = event.order_id
join {{ source('order_system', 'clocks') }} as clocks on clocks.source = event.source
window following as (partition by event.source, event.order_id order by event.seq)
