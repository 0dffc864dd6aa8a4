{{ config(
    materialized='incremental',
    incremental_strategy='changed_groups',
    unique_key=['source', 'session'],
    on_schema_change='append_new_columns',
) }}

{%- set groups %}
select source, day as session from {{ note('daily_bars') }}
union
select source, day from {{ note('official_daily') }}
union
from {{ note('changed_sessions') }}
union
-- A version that begins or ends elsewhere is the one in force of other rows.
select stored.source, stored.session
from {{ this }} as stored
semi join {{ note('dim_instrument') }} using (source, instrument_id, currency)
left join {{ ref('dim_instrument') }} as versions
    on stored.source = versions.source
    and stored.instrument_id = versions.instrument_id
    and stored.currency = versions.currency
    and stored.session >= versions.valid_from
    and stored.session < versions.valid_to
where stored.instrument_key is distinct from versions.instrument_key
{% endset %}
{%- set restricted = affected(['daily_bars', 'official_daily', 'changed_sessions', 'dim_instrument'], groups) %}

-- Left joins: a bar without an instrument or venue breaks the contract's NOT NULL instead of going missing.
select
    dim_instrument.instrument_key,
    bars.source,
    coalesce(bars.mic, venues.mic) as mic,
    bars.instrument_id,
    bars.currency,
    bars.session,
    bars.open,
    bars.high,
    bars.low,
    bars.close,
    -- Without corporate actions, a source's closes are as traded already.
    coalesce(as_traded.close, bars.close) as close_as_traded,
    official.close as official_close,
    bars.volume,
    official.volume as official_volume,
    bars.trades,
    bars.turnover,
    bars.vwap,
    bars.bar_count,
    bars.first_bar_at,
    bars.last_bar_at,
    bars.adjusted_as_of,
    bars.prev_session,
    bars.prev_close,
    bars.change_pct,
    coalesce(splits.split_factor, 1) as split_factor,
    splits.suspected_split,
    bars.is_complete
from {{ ref('stg_daily_bars') }} as bars
left join {{ ref('stg_venues') }} as venues using (source)
left join {{ ref('dim_instrument') }} as dim_instrument
    on bars.source = dim_instrument.source
    and bars.instrument_id = dim_instrument.instrument_id
    and bars.currency = dim_instrument.currency
    and bars.session >= dim_instrument.valid_from
    and bars.session < dim_instrument.valid_to
left join {{ ref('stg_official_daily') }} as official
    on bars.source = official.source
    and bars.instrument_id = official.instrument_id
    and bars.currency = official.currency
    and bars.session = official.session
left join {{ source('market', 'closes_as_traded') }} as as_traded
    on bars.source = as_traded.source
    and bars.instrument_id = as_traded.instrument_id
    and bars.currency = as_traded.currency
    and bars.session = as_traded.session
left join {{ source('market', 'session_splits') }} as splits
    on bars.source = splits.source
    and bars.instrument_id = splits.instrument_id
    and bars.currency = splits.currency
    and bars.session = splits.session
{% if restricted %}where (bars.source, bars.session) in (from {{ affected_groups() }}){% endif %}
order by bars.source, bars.session, bars.instrument_id, bars.currency
