{#
    Fails with each row whose rank isn't one more than the number of rows of its group with a higher value; a row without a
    value has no rank.
#}
{% test ranks_from_one(model, rank, by, within) %}
select *
from {{ model }}
window higher as (
    partition by {{ within | join(', ') }} order by {{ by }} desc nulls last
    range between unbounded preceding and current row exclude group
)
qualify {{ rank }} is distinct from if({{ by }} is null, null, 1 + count(*) over higher)
{% endtest %}
