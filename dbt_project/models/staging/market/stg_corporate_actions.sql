select source, instrument_id, symbol, currency, ex_date, kind, dividend_amount, split_coefficient, known_at
from {{ source('market', 'corporate_actions') }}
