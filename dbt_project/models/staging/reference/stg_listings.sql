select distinct
    isin, mic, ticker, figi, composite_figi, share_class_figi, valid_from, coalesce(valid_to, date '9999-12-31') as valid_to
from {{ source('reference', 'listings') }}
where known_to is null and mic is not null and not is_composite
