{# Fails with each row for which a rule is false. As in a CHECK constraint, a rule that gives NULL holds. #}
{% test holds(model, rules) %}
select *
from {{ model }}
where {% for rule in rules %}{{ 'or ' if not loop.first }}not ({{ rule }}){% if not loop.last %}
    {% endif %}{% endfor %}
{% endtest %}
