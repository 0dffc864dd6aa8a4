{# Use the schema names of the project without a target prefix, so that queries can refer to marts.<model>. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
