select
    md5(concat_ws('|', source, stock_code, valid_from)) as item_key,
    source,
    stock_code,
    description,
    list_price,
    valid_from,
    coalesce(valid_to, date '9999-12-31') as valid_to,
    valid_to is null as is_current
from {{ source('shop', 'items') }}
order by source, stock_code, valid_from
