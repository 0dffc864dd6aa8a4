{# Fails with each value of the columns that the other model's columns of the same names don't have. #}
{% test foreign_key(model, columns, to) %}
select distinct {{ columns | join(', ') }}
from {{ model }} anti join {{ to }} using ({{ columns | join(', ') }})
{% endtest %}
