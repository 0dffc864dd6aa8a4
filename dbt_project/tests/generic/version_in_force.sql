{#
    Fails with each row whose key finds no version in the dimension, or one that isn't valid at the row's date. With
    `first_holds_before`, an instrument's first version counts as valid before its beginning too.
#}
{% test version_in_force(model, dimension, key, at, first_holds_before=false) %}
select facts.*
from {{ model }} as facts
left join (
    from {{ dimension }}
    {%- if first_holds_before %}
    select * replace (
        if(lag(valid_from) over versions is null, date '-infinity', valid_from) as valid_from
    )
    window versions as (partition by source, instrument_id, currency order by valid_from)
    {%- endif %}
) as dimension using ({{ key }})
where (facts.{{ at }} >= dimension.valid_from and facts.{{ at }} < dimension.valid_to) is not true
{% endtest %}
