-- Every session of a calendar that a source follows at the venue. Where calendars differ on its hours, the first source
-- by name counts.
with followed as (
    select venues.mic, sessions.session, sessions.open_at, sessions.close_at, sessions.is_early_close
    from {{ ref('stg_source_venues') }} as venues
    join {{ source('calendar', 'sessions') }} as sessions using (calendar)
    qualify row_number() over (partition by venues.mic, sessions.session order by venues.source) = 1
)

select
    mic,
    session,
    open_at,
    close_at,
    is_early_close,
    lag(session) over venue_sessions as previous_session,
    lead(session) over venue_sessions as next_session,
    row_number() over venue_sessions as session_number,
    year(session) as year,
    quarter(session) as quarter,
    month(session) as month,
    week(session) as iso_week,
    isodow(session) as weekday
from followed
window venue_sessions as (partition by mic order by session)
order by mic, session
