select
    md5(concat_ws('|', version.source, version.account_id, version.valid_from)) as account_key,
    version.source,
    version.account_id,
    version.number as account_number,
    case when version.customer_id is not null then md5(concat_ws('|', version.source, version.customer_id)) end
        as customer_key,
    case when version.branch_id is not null then md5(concat_ws('|', version.source, version.branch_id)) end
        as branch_key,
    kind.name as account_type,
    version.purpose,
    version.currency,
    version.minimum_balance,
    state.name as status,
    version.valid_from,
    coalesce(version.valid_to, date '9999-12-31') as valid_to,
    version.valid_to is null as is_current
from {{ source('bank', 'account_versions') }} as version
left join {{ source('bank', 'account_type') }} as kind on kind.source = version.source and kind.id = version.type_id
left join {{ source('bank', 'account_status') }} as state
    on state.source = version.source and state.id = version.status_id
order by version.source, version.account_id, version.valid_from
