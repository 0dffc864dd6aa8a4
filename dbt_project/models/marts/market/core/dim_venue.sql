-- Sources may describe one venue in different words: the first one by name counts, whatever was loaded first. The
-- register of markets adds what it says now; without it, that is unknown.
select
    venue.mic,
    venue.name,
    venue.country,
    venue.time_zone,
    venue.currency,
    market.operating_mic,
    market.lei,
    market.status,
    market.iso_name
from {{ ref('stg_source_venues') }} as venue left join {{ ref('stg_markets') }} as market using (mic)
qualify row_number() over (partition by venue.mic order by venue.source) = 1
order by mic
