-- What was sold of an item in a week at each price: proper sales, so that no cancellation hides a response.
select
    source,
    stock_code,
    date_trunc('week', day)::date as week,
    unit_price as price,
    sum(quantity)::bigint as quantity,
    count(*) as line_count,
    count(distinct invoice_no) as invoice_count,
    count(distinct day) as day_count
from {{ ref('fct_sale_line') }}
where kind = 'sale' and quantity > 0 and unit_price > 0
group by all
order by source, stock_code, week, price
