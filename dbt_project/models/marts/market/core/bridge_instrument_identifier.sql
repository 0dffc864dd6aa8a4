-- The identifiers of each instrument: its own, those of its listings on its venue, and those of its issuer.
with instrument as (
    select distinct source, instrument_id, currency, isin, figi, composite_figi, share_class_figi, issuer_lei
    from {{ ref('dim_instrument') }}
    where is_current
),

own as (
    select source, instrument_id, currency, scheme, value
    from instrument unpivot (value for scheme in (isin, figi, composite_figi, share_class_figi, issuer_lei))
),

bic as (
    select source, instrument_id, currency, 'issuer_bic' as scheme, link.value
    from instrument join {{ ref('stg_identifiers') }} as link
    on link.scheme = 'bic' and link.subject_scheme = 'lei' and link.subject = issuer_lei
    where link.valid_to = date '9999-12-31'
)

select distinct source, instrument_id, currency, scheme, value
from (from own union all from bic)
order by source, instrument_id, currency, scheme, value
