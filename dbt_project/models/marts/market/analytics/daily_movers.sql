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
    rank() over (partition by source, session, currency order by split_adjusted_change_pct desc) as gain_rank,
    rank() over (partition by source, session, currency order by split_adjusted_change_pct) as loss_rank,
    instrument_id,
    symbol,
    name,
    instrument_type,
    prev_close,
    close,
    change_pct,
    split_adjusted_change_pct,
    is_complete
from {{ ref('daily_summary') }}
-- An instrument's first session has no change, and a change from a price of zero is not finite: neither can be ranked.
-- Suspected splits are left out since they are probably not price moves.
where isfinite(split_adjusted_change_pct) and suspected_split is null
{% if restricted %}    and (source, session) in (from {{ affected_groups() }}){% endif %}
order by source, session, currency, gain_rank, instrument_id
