-- Entries with the day on which they count, on the clock of their source.
select
    entry.source,
    entry.transaction_id,
    entry.line,
    entry.account_id,
    header.type_id,
    header.posted_at,
    header.effective_at,
    (header.effective_at at time zone clocks.time_zone)::date as day,
    header.reverses,
    entry.amount,
    entry.balance_after
from {{ source('bank', 'entry') }} as entry
join {{ source('bank', 'transaction') }} as header on header.source = entry.source and header.id = entry.transaction_id
join {{ source('bank', 'clocks') }} as clocks on clocks.source = entry.source
