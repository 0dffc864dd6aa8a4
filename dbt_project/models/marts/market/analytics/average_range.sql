with ranges as (
    select
        source,
        instrument_id,
        currency,
        count(*) as session_count,
        min(session) as first_session,
        max(session) as last_session,
        -- A low of zero has no relative range, and a negative one (a futures spread) no meaningful one.
        -- In session order: floating-point sums depend on the order, and incremental runs append rows at the end.
        avg((high - low) * 100 / low order by session) filter (where low > 0) as average_range_pct
    from {{ ref('fct_daily_bar') }}
    group by source, instrument_id, currency
)

select
    ranges.source,
    ranges.instrument_id,
    ranges.currency,
    instruments.symbol,
    instruments.name,
    instruments.instrument_type,
    ranges.session_count,
    ranges.first_session,
    ranges.last_session,
    ranges.average_range_pct
from ranges
join {{ ref('dim_instrument') }} as instruments using (source, instrument_id, currency)
where instruments.is_current
order by ranges.source, ranges.average_range_pct desc nulls last, ranges.instrument_id, ranges.currency
