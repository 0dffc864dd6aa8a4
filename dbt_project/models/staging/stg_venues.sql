select source, mic, name, country, time_zone, currency
from {{ source('calendar', 'venues') }}
where source in ('{{ var("sources") | join("', '") }}')
