{# Fails with each row whose key finds no version in the dimension, or one that isn't valid at the row's date. #}
{% test version_in_force(model, dimension, key, at) %}
select facts.*
from {{ model }} as facts
left join {{ dimension }} as dimension using ({{ key }})
where (facts.{{ at }} >= dimension.valid_from and facts.{{ at }} < dimension.valid_to) is not true
{% endtest %}
