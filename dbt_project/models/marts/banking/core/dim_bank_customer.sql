-- Neither name nor address: who needs them asks the bank's database.
select
    md5(concat_ws('|', customer.source, customer.id)) as customer_key,
    customer.source,
    customer.id as bank_customer_id,
    kind.name as customer_type,
    state.name as status,
    customer.minimum_balance,
    customer.opened_at
from {{ source('bank', 'customer') }} as customer
left join {{ source('bank', 'customer_type') }} as kind on kind.source = customer.source and kind.id = customer.type_id
left join {{ source('bank', 'customer_status') }} as state
    on state.source = customer.source and state.id = customer.status_id
order by customer.source, customer.id
