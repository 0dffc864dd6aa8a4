select
    lines.customer_id,
    md5(concat_ws('|', items.stock_code, items.description, items.list_price, items.valid_from)) as item_id,
    lines.invoice_no,
    lines.invoiced_at at time zone 'UTC' as invoice_date,
    lines.quantity
from {{ ref('fct_sale_line') }} as lines
inner join {{ ref('dim_item') }} as items using (item_key)
order by invoice_date, invoice_no, item_id
