{{ config(
    materialized='incremental',
    incremental_strategy='changed_groups',
    unique_key=['source', 'session'],
    on_schema_change='append_new_columns',
) }}
{#- The convention is the same on all rows of a series with a dividend that counts. -#}
{%- set conventions %}
    select actions.source, actions.instrument_id, actions.currency, max(actions.dividend_convention) as dividend_convention
    from {{ ref('fct_corporate_action') }} as actions
    join (
        select source, instrument_id, currency, min(session) as first_session, max(session) as last_session
        from {{ ref('fct_daily_bar') }}
        group by source, instrument_id, currency
    ) as series using (source, instrument_id, currency)
    where actions.kind = 'dividend' and actions.ex_date > first_session and actions.ex_date <= last_session
    group by actions.source, actions.instrument_id, actions.currency
{%- endset %}
{%- set groups %}
from {{ note('fct_daily_bar') }}
union
select source, session
from {{ ref('fct_daily_bar') }}
where (source, prev_session) in (from {{ note('fct_daily_bar') }})
union
select bars.source, bars.session
from {{ ref('fct_daily_bar') }} as bars
join {{ note('changed_dividends') }} as dividends using (source, instrument_id, currency)
where bars.session >= dividends.ex_date and bars.prev_session < dividends.ex_date
union
select stored.source, stored.session
from {{ this }} as stored
left join ({{ conventions }}) as conventions using (source, instrument_id, currency)
where stored.dividend_convention is distinct from conventions.dividend_convention
{% endset %}
{%- set restricted = affected(['fct_daily_bar', 'changed_dividends'], groups) %}

with closes as (
    -- `grown` is the closing value of the shares that one share of the previous session has become.
    select
        source, instrument_id, currency, session, close_as_traded as close, suspected_split, is_complete,
        close_as_traded * split_factor as grown,
        lag(session) over sessions as prev_session,
        lag(close_as_traded) over sessions as prev_close
    from {{ ref('fct_daily_bar') }}
    {% if restricted %}
    where (source, session) in (from {{ affected_groups() }})
        or (source, instrument_id, currency, session) in (
            select source, instrument_id, currency, prev_session
            from {{ ref('fct_daily_bar') }}
            where (source, session) in (from {{ affected_groups() }})
        )
    {% endif %}
    window sessions as (partition by source, instrument_id, currency order by session)
),

-- A dividend counts in the first session from its ex-date on.
dividends as (
    select
        closes.source, closes.instrument_id, closes.currency, closes.session,
        product(actions.price_factor order by actions.ex_date) as price_factor
    from {{ ref('fct_corporate_action') }} as actions
    asof join closes
        on actions.source = closes.source
        and actions.instrument_id = closes.instrument_id
        and actions.currency = closes.currency
        and actions.ex_date <= closes.session
    where actions.kind = 'dividend' and actions.ex_date > closes.prev_session
    group by closes.source, closes.instrument_id, closes.currency, closes.session
)

select
    source,
    session,
    instrument_id,
    currency,
    prev_session,
    prev_close,
    close,
    -- A price of zero or below (a futures spread) has no return.
    if(prev_close > 0, (close / prev_close - 1) * 100, null) as return_pct,
    if(prev_close > 0, (grown / prev_close - 1) * 100, null) as split_adjusted_return_pct,
    if(prev_close > 0, (grown / (prev_close * coalesce(dividends.price_factor, 1)) - 1) * 100, null) as total_return_pct,
    conventions.dividend_convention,
    suspected_split,
    is_complete
from closes
left join dividends using (source, instrument_id, currency, session)
left join ({{ conventions }}) as conventions using (source, instrument_id, currency)
{% if restricted %}where (source, session) in (from {{ affected_groups() }}){% endif %}
order by source, session, instrument_id, currency
