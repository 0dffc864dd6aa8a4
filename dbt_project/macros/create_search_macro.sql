{#
    Makes marts.search_documents(query, k := 10) in the file that is built, so that any DuckDB can search the published
    file. The ranking is that of lakehouse/domains/documents/rules.py, which gives the statement.
#}
{% macro create_search_macro() %}
    {%- if execute -%}
        {{ return(run_query("select statement from lakehouse.library.search_macro").rows[0][0]) }}
    {%- endif -%}
{% endmacro %}
