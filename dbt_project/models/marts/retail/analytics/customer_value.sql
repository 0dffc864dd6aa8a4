-- Recency, frequency and monetary value on the last day of the source's data; scores are fifths, 5 is best, and equal
-- values have equal scores. The macro customer_features(as_of) gives the same as of any day.
with bought as (
    select
        source,
        customer_id,
        min(day) filter (kind = 'sale') as first_day,
        max(day) filter (kind = 'sale') as last_day,
        count(distinct invoice_no) filter (kind = 'sale') as invoice_count,
        sum(amount)::decimal(38, 4) as total
    from {{ ref('fct_sale_line') }}
    where customer_id is not null
    group by source, customer_id
    having count(*) filter (kind = 'sale') > 0
),

until as (
    select source, max(day) as last_day from {{ ref('fct_sale_line') }} group by source
),

scored as (
    select
        bought.*,
        date_trunc('month', bought.first_day)::date as cohort,
        date_diff('day', bought.last_day, until.last_day) as recency_days,
        (5 * count(*) over (partition by source order by bought.last_day) + count(*) over (partition by source) - 1)
            // count(*) over (partition by source) as recency,
        (5 * count(*) over (partition by source order by invoice_count) + count(*) over (partition by source) - 1)
            // count(*) over (partition by source) as frequency,
        (5 * count(*) over (partition by source order by total) + count(*) over (partition by source) - 1)
            // count(*) over (partition by source) as monetary
    from bought inner join until using (source)
)

select
    source,
    customer_id,
    cohort,
    first_day,
    last_day,
    recency_days,
    invoice_count,
    total,
    recency,
    frequency,
    monetary,
    case
        when recency >= 4 and frequency >= 4 then 'champion'
        when frequency >= 4 then 'loyal, at risk'
        when recency >= 4 and invoice_count = 1 then 'new'
        when recency >= 3 then 'occasional'
        else 'lapsed'
    end as segment
from scored
order by source, customer_id
