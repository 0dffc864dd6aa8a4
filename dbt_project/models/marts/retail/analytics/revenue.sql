select
    source,
    day,
    country,
    coalesce(sum(amount) filter (kind = 'sale'), 0)::decimal(38, 4) as sales,
    coalesce(sum(amount) filter (kind = 'cancellation'), 0)::decimal(38, 4) as cancelled,
    coalesce(sum(amount) filter (kind not in ('sale', 'cancellation')), 0)::decimal(38, 4) as adjusted,
    sum(amount)::decimal(38, 4) as revenue,
    count(distinct invoice_no) as invoice_count
from {{ ref('fct_sale_line') }}
group by source, day, country
order by source, day, country
