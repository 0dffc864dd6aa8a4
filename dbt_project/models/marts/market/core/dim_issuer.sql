-- One version per stretch of time in which what is shown stays the same. A gap, in which the publisher said nothing
-- about the entity, ends a version.
with issuer as (
    select distinct subject as lei from {{ ref('stg_identifiers') }} where scheme = 'isin' and subject_scheme = 'lei'
),

observed as (
    select *, hash(legal_name, jurisdiction, category, legal_form_id, country, city, status, registration_status) as facts
    from {{ ref('stg_entities') }} semi join issuer using (lei)
),

begun as (
    select
        *,
        facts is distinct from lag(facts) over entity
            or valid_from is distinct from lag(valid_to) over entity as is_new_version
    from observed
    window entity as (partition by lei order by valid_from)
),

numbered as (
    select *, count(*) filter (is_new_version) over (partition by lei order by valid_from) as version from begun
)

select
    md5(concat_ws('|', lei, min(valid_from))) as issuer_key,
    lei,
    any_value(legal_name) as legal_name,
    any_value(jurisdiction) as jurisdiction,
    any_value(category) as category,
    any_value(legal_form_id) as legal_form_id,
    any_value(country) as country,
    any_value(city) as city,
    any_value(status) as status,
    any_value(registration_status) as registration_status,
    min(valid_from) as valid_from,
    max(valid_to) as valid_to,
    max(valid_to) = date '9999-12-31' as is_current
from numbered
group by lei, version
order by lei, valid_from
