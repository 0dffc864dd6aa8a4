select
    country,
    min(day) as first_day,
    max(day) as last_day
from {{ source('shop', 'sale_lines') }}
group by country
order by country
