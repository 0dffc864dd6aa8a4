-- An entry that is dated back to before the opening of its account belongs to the first version.
select
    entry.source,
    entry.transaction_id,
    entry.line,
    account.account_key,
    account.customer_key,
    entry.account_id,
    kind.name as transaction_type,
    entry.day,
    entry.posted_at,
    entry.effective_at,
    entry.reverses,
    account.currency,
    entry.amount as entry_amount,
    entry.balance_after
from {{ ref('stg_bank_entry') }} as entry
join (
    select *, row_number() over (partition by source, account_id order by valid_from) = 1 as is_first
    from {{ ref('dim_account') }}
) as account
    on account.source = entry.source and account.account_id = entry.account_id and entry.day < account.valid_to
    and (entry.day >= account.valid_from or account.is_first)
left join {{ source('bank', 'transaction_type') }} as kind on kind.source = entry.source and kind.id = entry.type_id
order by entry.source, entry.transaction_id, entry.line
