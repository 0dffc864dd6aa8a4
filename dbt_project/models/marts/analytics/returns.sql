with closes as (
    select
        source, instrument_id, currency, session, close_as_traded as close, is_complete,
        lag(session) over sessions as prev_session,
        lag(close_as_traded) over sessions as prev_close
    from {{ ref('fct_daily_bar') }}
    window sessions as (partition by source, instrument_id, currency order by session)
),

-- An action counts in the first session from its ex-date on.
factors as (
    select
        closes.source, closes.instrument_id, closes.currency, closes.session,
        product(actions.price_factor order by actions.ex_date) filter (actions.kind = 'split') as splits,
        product(actions.price_factor order by actions.ex_date, actions.kind) as splits_and_dividends,
        max(actions.dividend_convention) as dividend_convention
    from {{ ref('fct_corporate_action') }} as actions
    asof join closes
        on actions.source = closes.source
        and actions.instrument_id = closes.instrument_id
        and actions.currency = closes.currency
        and actions.ex_date <= closes.session
    where actions.ex_date > closes.prev_session
    group by closes.source, closes.instrument_id, closes.currency, closes.session
)

select
    closes.source,
    closes.session,
    closes.instrument_id,
    closes.currency,
    closes.prev_session,
    closes.prev_close,
    closes.close,
    -- From a price of zero or below (a futures spread) there is no return.
    if(closes.prev_close > 0, (closes.close / closes.prev_close - 1) * 100, null) as return_pct,
    if(
        closes.prev_close > 0, (closes.close / (closes.prev_close * coalesce(factors.splits, 1)) - 1) * 100, null
    ) as split_adjusted_return_pct,
    if(
        closes.prev_close > 0,
        (closes.close / (closes.prev_close * coalesce(factors.splits_and_dividends, 1)) - 1) * 100,
        null
    ) as total_return_pct,
    factors.dividend_convention,
    closes.is_complete
from closes
left join factors
    on closes.source = factors.source
    and closes.instrument_id = factors.instrument_id
    and closes.currency = factors.currency
    and closes.session = factors.session
order by closes.source, closes.session, closes.instrument_id, closes.currency
