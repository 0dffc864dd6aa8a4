select
    balance.source,
    balance.day,
    account.account_key,
    account.customer_key,
    balance.account_id,
    balance.currency,
    balance.opening_balance,
    balance.credits,
    balance.debits,
    balance.entry_count,
    balance.balance
from {{ source('bank', 'balances_daily') }} as balance
join (
    select *, row_number() over (partition by source, account_id order by valid_from) = 1 as is_first
    from {{ ref('dim_account') }}
) as account
    on account.source = balance.source and account.account_id = balance.account_id and balance.day < account.valid_to
    and (balance.day >= account.valid_from or account.is_first)
order by balance.source, balance.day, balance.account_id
