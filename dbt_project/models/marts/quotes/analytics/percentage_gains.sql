{{ config(materialized='view') }}

select
    source,
    day,
    resolution_minutes,
    window_end,
    symbol,
    first_price,
    last_price,
    percentage_gain
from {{ ref('fct_quote_window').include(database=false) }}
order by window_end desc, source, resolution_minutes, symbol
