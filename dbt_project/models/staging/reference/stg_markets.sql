select mic, operating_mic, name as iso_name, lei, status
from {{ source('reference', 'markets') }}
where known_to is null and valid_to is null
