select source, mic, name, country, time_zone, currency, calendar
from {{ source('calendar', 'venues') }}
where is_main
