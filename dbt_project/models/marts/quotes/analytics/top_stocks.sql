{{ config(materialized='view') }}

-- day is a partition key of the ranking so that a filter on it is pushed down to the table. Table names leave out the
-- catalog, so that they resolve under any name that the published file is attached by.
select
    windows.source,
    windows.day,
    windows.resolution_minutes,
    windows.window_end,
    rank() over (
        partition by windows.source, windows.day, windows.resolution_minutes, windows.window_end
        order by windows.mean_price desc
    ) as price_rank,
    windows.symbol,
    windows.mean_price
from {{ ref('fct_quote_window').include(database=false) }} as windows
join {{ ref('dim_resolution').include(database=false) }} as resolutions using (source, resolution_minutes)
qualify price_rank <= resolutions.top_ranks
order by windows.window_end desc, windows.source, windows.resolution_minutes, price_rank, windows.symbol
