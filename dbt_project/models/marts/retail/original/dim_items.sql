select
    md5(concat_ws('|', stock_code, description, list_price, valid_from)) as id,
    stock_code,
    list_price as unit_price,
    description,
    valid_from::timestamp as datetime_valid_from,
    if(is_current, timestamp '2099-12-30 23:59:59', valid_to::timestamp - interval 1 second) as datetime_valid_to
from {{ ref('dim_item') }}
order by stock_code, datetime_valid_from
