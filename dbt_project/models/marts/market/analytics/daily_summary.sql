{{ config(
    materialized='incremental',
    incremental_strategy='changed_groups',
    unique_key=['source', 'session'],
    on_schema_change='append_new_columns',
) }}
{%- set groups %}
from {{ note('fct_daily_bar') }}
union
from {{ note('returns') }}
union
select stored.source, stored.session
from {{ this }} as stored
semi join {{ note('dim_instrument') }} using (source, instrument_id, currency)
left join {{ ref('dim_instrument') }} as versions
    on stored.source = versions.source
    and stored.instrument_id = versions.instrument_id
    and stored.currency = versions.currency
    and stored.session >= versions.valid_from
    and stored.session < versions.valid_to
where stored.symbol is distinct from versions.symbol
    or stored.name is distinct from versions.name
    or stored.instrument_type is distinct from versions.instrument_type
{% endset %}
{%- set restricted = affected(['fct_daily_bar', 'returns', 'dim_instrument'], groups) %}

select
    bars.source,
    bars.mic,
    bars.session,
    bars.instrument_id,
    bars.currency,
    instruments.symbol,
    instruments.name,
    instruments.instrument_type,
    bars.open,
    bars.high,
    bars.low,
    bars.close,
    bars.volume,
    bars.trades,
    bars.turnover,
    bars.prev_session,
    bars.prev_close,
    bars.close - bars.prev_close as change,
    bars.change_pct,
    returns.split_adjusted_return_pct as split_adjusted_change_pct,
    returns.suspected_split,
    bars.is_complete
from {{ ref('fct_daily_bar') }} as bars
join {{ ref('dim_instrument') }} as instruments using (instrument_key)
left join {{ ref('returns') }} as returns
    on bars.source = returns.source
    and bars.instrument_id = returns.instrument_id
    and bars.currency = returns.currency
    and bars.session = returns.session
{% if restricted %}where (bars.source, bars.session) in (from {{ affected_groups() }}){% endif %}
order by bars.source, bars.session, instruments.symbol, bars.instrument_id, bars.currency
