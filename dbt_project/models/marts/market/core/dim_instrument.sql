{{ config(
    materialized='incremental',
    incremental_strategy='changed_groups',
    unique_key=['source', 'instrument_id', 'currency'],
    on_schema_change='append_new_columns',
) }}
{%- set restricted = affected(['instruments'], 'from ' ~ note('instruments')) %}

-- The versions come from the sessions alone. What reference data says about each is joined; without them it is unknown.
with versions as (
    select
        * exclude (venue_mic) replace (coalesce(mic, venue_mic) as mic),
        case when regexp_full_match(instrument_id, '[A-Z]{2}[A-Z0-9]{9}[0-9]') then instrument_id end as own_isin,
        valid_from as since
    from {{ ref('stg_instrument_versions') }}
    left join (select source, mic as venue_mic from {{ ref('stg_venues') }}) as venues using (source)
    {% if restricted %}where (source, instrument_id, currency) in (from {{ affected_groups() }}){% endif %}
),

listed as (
    select versions.instrument_key, versions.since, listing.*
    from versions join {{ ref('stg_listings') }} as listing on listing.mic = versions.mic
    and coalesce(listing.isin = versions.own_isin, listing.ticker = versions.symbol)
),

listing as (
    {{ only_in_force('listed', 'instrument_key', ['isin', 'figi', 'composite_figi', 'share_class_figi'], 'since') }}
),

identified as (
    select versions.*, coalesce(versions.own_isin, listing.isin) as isin, figi, composite_figi, share_class_figi
    from versions left join listing using (instrument_key)
),

issued as (
    select identified.instrument_key, identified.since, link.subject as issuer_lei, link.valid_from, link.valid_to
    from identified join {{ ref('stg_identifiers') }} as link
    on link.scheme = 'isin' and link.subject_scheme = 'lei' and link.value = identified.isin
),

issuer as (
    {{ only_in_force('issued', 'instrument_key', ['issuer_lei'], 'since') }}
),

named as (
    select identified.instrument_key, identified.since, entity.legal_name as issuer_name, entity.valid_from, entity.valid_to
    from identified join issuer using (instrument_key)
    join {{ ref('stg_entities') }} as entity on entity.lei = issuer.issuer_lei
),

issuer_name as (
    {{ only_in_force('named', 'instrument_key', ['issuer_name'], 'since') }}
)

select
    instrument_key,
    source,
    instrument_id,
    currency,
    symbol,
    name,
    instrument_type,
    mic,
    isin,
    figi,
    composite_figi,
    share_class_figi,
    issuer_lei,
    issuer_name,
    valid_from,
    valid_to,
    is_current
from identified left join issuer using (instrument_key) left join issuer_name using (instrument_key)
order by source, instrument_id, currency, valid_from
