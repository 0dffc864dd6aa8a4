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
    turnover * 100 / nullif(sum(turnover) over whole_market, 0) as turnover_share_pct,
    volume,
    trades,
    is_complete
from {{ ref('daily_summary') }}
window
    market as (partition by source, session, currency),
    -- Sums of floating-point numbers depend on their order.
    whole_market as (market order by instrument_id rows between unbounded preceding and unbounded following)
order by source, session, currency, turnover_rank, instrument_id
