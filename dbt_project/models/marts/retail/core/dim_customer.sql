select
    md5(concat_ws('|', source, customer_id, valid_from)) as customer_key,
    source,
    customer_id,
    country,
    valid_from,
    coalesce(valid_to, date '9999-12-31') as valid_to,
    valid_to is null as is_current
from {{ source('shop', 'customers') }}
union all
-- Lines without a customer refer to this member, so that none is lost in a join.
select distinct
    md5(concat_ws('|', source, 'unknown')), source, null, 'Unknown', date '0001-01-01', date '9999-12-31', true
from {{ source('shop', 'sale_lines') }}
order by source, customer_id, valid_from
