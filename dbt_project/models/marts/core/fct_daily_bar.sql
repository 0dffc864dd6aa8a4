{{ config(
    materialized='incremental',
    incremental_strategy='changed_groups',
    unique_key=['source', 'session'],
    on_schema_change='append_new_columns',
) }}

-- Left joins: a bar without an instrument or venue breaks the contract's NOT NULL instead of going missing.
select
    dim_instrument.instrument_key,
    bars.source,
    venues.mic,
    bars.instrument_id,
    bars.currency,
    bars.session,
    bars.open,
    bars.high,
    bars.low,
    bars.close,
    bars.volume,
    bars.trades,
    bars.turnover,
    bars.vwap,
    bars.bar_count,
    bars.first_bar_at,
    bars.last_bar_at,
    bars.prev_session,
    bars.prev_close,
    bars.change_pct,
    bars.is_complete
from {{ ref('stg_daily_bars') }} as bars
left join {{ ref('stg_venues') }} as venues using (source)
left join {{ ref('dim_instrument') }} as dim_instrument
    on bars.source = dim_instrument.source
    and bars.instrument_id = dim_instrument.instrument_id
    and bars.currency = dim_instrument.currency
    and bars.session >= dim_instrument.valid_from
    and bars.session < dim_instrument.valid_to
order by bars.source, bars.session, bars.instrument_id, bars.currency
