select
    lines.source,
    own.cohort,
    date_diff('month', own.cohort, lines.day) as months_since,
    count(distinct lines.customer_id) as customer_count,
    sum(lines.amount)::decimal(38, 4) as total
from {{ ref('fct_sale_line') }} as lines
inner join {{ ref('customer_value') }} as own using (source, customer_id)
where lines.kind = 'sale'
group by all
order by lines.source, own.cohort, months_since
