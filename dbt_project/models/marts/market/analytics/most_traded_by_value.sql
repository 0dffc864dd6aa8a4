{{ config(
    materialized='incremental',
    incremental_strategy='changed_groups',
    unique_key=['source', 'session'],
    on_schema_change='append_new_columns',
) }}
{%- set restricted = affected(['daily_summary'], 'from ' ~ note('daily_summary')) %}

select
    source,
    session,
    currency,
    rank() over (market order by turnover desc) as turnover_rank,
    instrument_id,
    symbol,
    name,
    instrument_type,
    turnover,
    -- Negative prices (futures spreads) may make a turnover of which a share means nothing.
    if(sum(turnover) over whole_market > 0, turnover * 100 / sum(turnover) over whole_market, null)
        as turnover_share_pct,
    volume,
    trades,
    is_complete
from {{ ref('daily_summary') }}
-- A source without volumes has no turnover to rank.
where turnover is not null
{% if restricted %}    and (source, session) in (from {{ affected_groups() }}){% endif %}
window
    market as (partition by source, session, currency),
    -- Sums of floating-point numbers depend on their order.
    whole_market as (market order by instrument_id rows between unbounded preceding and unbounded following)
order by source, session, currency, turnover_rank, instrument_id
