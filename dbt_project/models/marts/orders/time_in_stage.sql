with stay as (
    select source, order_day, event, next_event, (epoch_us(next_at) - epoch_us(occurred_at)) / 1e6 as seconds
    from {{ ref('stg_order_event') }}
    where next_event is not null
)
select
    source,
    order_day,
    event as stage,
    next_event as next_stage,
    count(*) as order_count,
    round(median(seconds), 6) as median_s,
    round(quantile_cont(seconds, 0.95), 6) as p95_s,
    max(seconds) as longest_s
from stay
group by all
order by source, order_day, stage, next_stage
