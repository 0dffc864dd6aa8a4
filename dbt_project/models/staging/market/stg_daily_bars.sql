select
    source, instrument_id, symbol, name, instrument_type, mic, currency, session,
    open, high, low, close, volume, trades, turnover, vwap, bar_count, first_bar_at, last_bar_at, adjusted_as_of,
    prev_session, prev_close, change_pct, is_complete
from {{ source('market', 'daily_bars') }}
