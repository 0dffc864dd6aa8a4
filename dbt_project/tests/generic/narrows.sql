{# Fails with each row of a group that has more than the row before it. #}
{% test narrows(model, columns, by, measure) %}
select *
from {{ model }}
qualify {{ measure }} > lag({{ measure }}) over (partition by {{ columns | join(', ') }} order by {{ by }})
{% endtest %}
