{# Fails with each source whose rows or total volume differ between the model and the lake's table. #}
{% test reconciles_with_lake(model, table) %}
with built as (
    select source, count(*) as row_count, sum(volume) as volume from {{ model }} group by source
),
lake as (
    select source, count(*) as row_count, sum(volume) as volume
    from ({{ union_sources(table) }}) group by source
)
select source, built.row_count, lake.row_count as lake_row_count, built.volume, lake.volume as lake_volume
from built full join lake using (source)
where built.row_count is distinct from lake.row_count or built.volume is distinct from lake.volume
{% endtest %}
