select
    source, resolution_minutes, window_end, day, symbol,
    mean_price, first_price, last_price, min_price, max_price, quote_count, percentage_gain, revision, closed_at
from {{ source('feed', 'quote_windows') }}
