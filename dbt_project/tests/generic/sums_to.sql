{# Fails with each value of the columns whose sum of a measure isn't that of another relation. No rows are a sum of 0. #}
{% test sums_to(model, columns, measure, to, total) %}
with here as (
    select {{ columns | join(', ') }}, sum({{ measure }}) as found from {{ model }} group by all
),
there as (
    select {{ columns | join(', ') }}, sum({{ total }}) as expected from {{ to }} group by all
)
select * from here full join there using ({{ columns | join(', ') }}) where coalesce(found, 0) <> coalesce(expected, 0)
{% endtest %}
