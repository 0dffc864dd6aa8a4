-- Sources may describe one venue in different words: the first one by name counts, whatever was loaded first.
select mic, name, country, time_zone, currency
from {{ ref('stg_venues') }}
qualify row_number() over (partition by mic order by source) = 1
order by mic
