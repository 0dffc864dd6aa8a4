{# Schemas carry the names written in the project: people query marts.<model>, whatever the target is called. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
