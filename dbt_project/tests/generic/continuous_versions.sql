{#
    For a slowly changing dimension of type 2 with half-open versions [valid_from, valid_to). Fails with each version that
    doesn't end where the next one of its key begins, and with each last version that isn't open and the only current one.
#}
{% test continuous_versions(model, key) %}
select *
from {{ model }}
window versions as (partition by {{ key | join(', ') }} order by valid_from)
qualify valid_from >= valid_to
    or valid_to is distinct from coalesce(lead(valid_from) over versions, date '9999-12-31')
    or is_current is distinct from (lead(valid_from) over versions is null)
{% endtest %}
