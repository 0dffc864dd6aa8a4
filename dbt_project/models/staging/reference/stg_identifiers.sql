select distinct
    scheme, value, subject_scheme, subject, valid_from, coalesce(valid_to, date '9999-12-31') as valid_to
from {{ source('reference', 'identifiers') }}
where known_to is null
