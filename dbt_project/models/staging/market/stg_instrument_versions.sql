-- Versions follow the sessions of the data, not the time of loading, so backfills and rebuilds in any order give the
-- same dimension.
with named as (
    select source, instrument_id, currency, session, symbol, name, instrument_type, mic from {{ ref('stg_daily_bars') }}
    union all by name
    -- Instruments with corporate actions but without daily bars: fct_corporate_action refers to them.
    select source, instrument_id, currency, min(ex_date) as session, arg_min_null(symbol, ex_date) as symbol
    from {{ ref('stg_corporate_actions') }}
    anti join {{ ref('stg_daily_bars') }} using (source, instrument_id, currency)
    group by source, instrument_id, currency
),

observed as (
    select
        *,
        lag(session) over sessions is null
            or symbol is distinct from lag(symbol) over sessions
            or name is distinct from lag(name) over sessions
            or instrument_type is distinct from lag(instrument_type) over sessions
            or mic is distinct from lag(mic) over sessions as is_new_version
    from named
    window sessions as (partition by source, instrument_id, currency order by session)
)

select
    md5(concat_ws('|', source, instrument_id, currency, session)) as instrument_key,
    source,
    instrument_id,
    currency,
    symbol,
    name,
    instrument_type,
    mic,
    session as valid_from,
    coalesce(lead(session) over versions, date '9999-12-31') as valid_to,
    lead(session) over versions is null as is_current
from observed
where is_new_version
window versions as (partition by source, instrument_id, currency order by session)
order by source, instrument_id, currency, valid_from
