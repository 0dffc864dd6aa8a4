with stage as (
    select *
    from (values (1, 'acknowledged'), (2, 'paid'), (3, 'booked'), (4, 'shipped'), (5, 'delivered')) as each (number, name)
),
reached as (
    select source, order_day, event, count(*) as order_count
    from {{ ref('stg_order_event') }}
    group by all
),
started as (
    select source, order_day, order_count from reached where event = 'acknowledged'
)
select
    started.source,
    started.order_day,
    stage.number as stage_number,
    stage.name as stage,
    coalesce(reached.order_count, 0) as order_count,
    coalesce(reached.order_count, 0) / started.order_count as share_of_acknowledged
from started
cross join stage
left join reached
    on reached.source = started.source and reached.order_day = started.order_day and reached.event = stage.name
order by started.source, started.order_day, stage.number
