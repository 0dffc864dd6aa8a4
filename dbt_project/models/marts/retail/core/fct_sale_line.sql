select
    lines.source,
    lines.line_key,
    items.item_key,
    coalesce(customers.customer_key, md5(concat_ws('|', lines.source, 'unknown'))) as customer_key,
    lines.invoice_no,
    lines.stock_code,
    lines.customer_id,
    lines.country,
    lines.day,
    lines.invoiced_at,
    lines.kind,
    lines.quantity,
    lines.unit_price,
    lines.amount
from {{ source('shop', 'sale_lines') }} as lines
left join {{ ref('dim_item') }} as items
    on lines.source = items.source and lines.stock_code = items.stock_code
    and lines.day >= items.valid_from and lines.day < items.valid_to
left join {{ ref('dim_customer') }} as customers
    on lines.source = customers.source and lines.customer_id = customers.customer_id
    and lines.day >= customers.valid_from and lines.day < customers.valid_to
order by lines.source, lines.day, lines.invoice_no, lines.line_key
