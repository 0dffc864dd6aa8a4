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
order by bars.source, bars.session, instruments.symbol, bars.instrument_id, bars.currency
