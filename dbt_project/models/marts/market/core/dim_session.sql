select
    venues.mic,
    sessions.session,
    sessions.open_at,
    sessions.close_at,
    sessions.is_early_close,
    lag(sessions.session) over venue_sessions as previous_session,
    lead(sessions.session) over venue_sessions as next_session,
    row_number() over venue_sessions as session_number,
    year(sessions.session) as year,
    quarter(sessions.session) as quarter,
    month(sessions.session) as month,
    week(sessions.session) as iso_week,
    isodow(sessions.session) as weekday
from (select distinct mic, calendar from {{ ref('stg_venues') }}) as venues
join {{ source('calendar', 'sessions') }} as sessions using (calendar)
window venue_sessions as (partition by venues.mic order by sessions.session)
order by mic, session
