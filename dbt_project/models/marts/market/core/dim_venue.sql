select distinct mic, name, country, time_zone, currency
from {{ ref('stg_venues') }}
order by mic
