with versions as (
    select
        instrument_key, source, instrument_id, currency, valid_to,
        -- Use the first version for earlier dates, too: actions reach further back than bars.
        if(lag(valid_from) over versions is null, date '-infinity', valid_from) as valid_from
    from {{ ref('dim_instrument') }}
    window versions as (partition by source, instrument_id, currency order by valid_from)
)

-- Left joins: an action without an instrument or venue breaks the contract's NOT NULL instead of going missing.
select
    versions.instrument_key,
    actions.source,
    venues.mic,
    actions.instrument_id,
    actions.currency,
    actions.ex_date,
    actions.kind,
    actions.dividend_amount,
    actions.split_coefficient,
    case actions.kind when 'split' then 1 / factors.split_factor else factors.dividend_factor end as price_factor,
    factors.skipped and price_factor = 1 as is_skipped,
    if(actions.kind = 'dividend', factors.dividend_convention, null) as dividend_convention,
    actions.known_at
from {{ ref('stg_corporate_actions') }} as actions
left join {{ ref('stg_venues') }} as venues using (source)
left join versions
    on actions.source = versions.source
    and actions.instrument_id = versions.instrument_id
    and actions.currency = versions.currency
    and actions.ex_date >= versions.valid_from
    and actions.ex_date < versions.valid_to
left join {{ source('market', 'adjustment_factors') }} as factors
    on actions.source = factors.source
    and actions.instrument_id = factors.instrument_id
    and actions.currency = factors.currency
    and actions.ex_date = factors.ex_date
order by actions.source, actions.ex_date, actions.instrument_id, actions.currency, actions.kind
