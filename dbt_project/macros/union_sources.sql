{#
    One table of every listed source (the variable `sources`), as a query with the source's name in front.
    Columns are matched by name, so that a source may carry columns that the others lack.
#}
{% macro union_sources(table) %}
    {%- if not var('sources') -%}
        {{ exceptions.raise_compiler_error("The variable 'sources' is empty: name at least one source of the lake.") }}
    {%- endif -%}
    {%- for name in var('sources') %}
    select '{{ name }}' as source, * from {{ source(name, table) }}
    {%- if not loop.last %}
    union all by name
    {%- endif %}
    {%- endfor %}
{% endmacro %}
