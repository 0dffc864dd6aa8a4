{#
    Fails with each source whose rows, or whose sum of a measure, differ between the model and the lake's table of a
    domain (`market` or `feed`, as dbt's sources are named). The measure is an expression over columns that both have; of
    whole numbers, since sums of others depend on the order: `hash(column)` compares other columns.
#}
{% test reconciles_with_lake(model, table, measure, domain='market') %}
with built as (
    select source, count(*) as row_count, sum({{ measure }}) as total from {{ model }} group by source
),
lake as (
    select source, count(*) as row_count, sum({{ measure }}) as total from {{ source(domain, table) }} group by source
)
select source, built.row_count, lake.row_count as lake_row_count, built.total, lake.total as lake_total
from built full join lake using (source)
where built.row_count is distinct from lake.row_count or built.total is distinct from lake.total
{% endtest %}
