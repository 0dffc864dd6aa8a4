select
    source,
    invoice_no,
    min(invoiced_at) as invoiced_at,
    min(day) as day,
    arg_min(customer_key, (invoiced_at, line_key)) as customer_key,
    arg_min(country, (invoiced_at, line_key)) as country,
    count(*) as line_count,
    sum(quantity)::bigint as quantity,
    sum(amount)::decimal(38, 4) as total
from {{ ref('fct_sale_line') }}
group by source, invoice_no
order by source, invoice_no
