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
-- An instrument's first session has no change; one from a price of zero has no finite change. Neither can be ranked, nor
-- what is likely no move at all.
where isfinite(split_adjusted_change_pct) and suspected_split is null
order by source, session, currency, gain_rank, instrument_id
