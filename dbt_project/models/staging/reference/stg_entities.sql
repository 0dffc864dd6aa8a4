-- Several sources may say the same about an entity: the first one by name counts for each validity.
select
    lei,
    legal_name,
    jurisdiction,
    category,
    legal_form_id,
    legal_address_country as country,
    legal_address_city as city,
    status,
    registration_status,
    valid_from,
    coalesce(valid_to, date '9999-12-31') as valid_to
from {{ source('reference', 'entities') }}
where known_to is null
qualify row_number() over (partition by lei, valid_from order by source) = 1
