select
    source, instrument_id, symbol, currency, session,
    open, high, low, close, adjusted_close, volume, dividend_amount, split_coefficient, known_at
from {{ source('market', 'official_daily') }}
