{#
    Incremental strategy `changed_groups`: only the groups of `unique_key` with different content are rewritten. Groups are
    compared by their row count and the order-independent sum of their rows' hashes. Vanished groups are deleted, so that
    an incremental run gives the same rows as a full refresh; a run without changes writes nothing.

    Where the changes of the lake are noted in the schema `reading` (lakehouse/warehouse/differences.py), a model computes
    and compares only the groups that they can reach (`affected`), and notes those that it rewrote as
    `reading.<model>`, for the models that are built from it. Otherwise it computes all its rows.

    A table whose columns no longer match the model's is rebuilt, since its groups can't be compared; so is one that
    forbids NULL in a column where the model now allows it.
#}
{% macro get_incremental_changed_groups_sql(arg_dict) %}
    {%- set target = arg_dict['target_relation'] -%}
    {%- set rows = arg_dict['temp_relation'] -%}
    {%- set columns = model['columns'].keys() | join(', ') -%}
    {%- set group = arg_dict['unique_key'] | join(', ') -%}
    {%- set changed = rows.identifier ~ '_changed' -%}
    {%- set restricted = has_note(affected_name()) -%}

    {%- if column_types(target) != column_types(rows) or stored_not_null(target) | reject('in', declared_not_null()) | list %}
    drop table {{ target }};
    create table {{ target }} {{ get_table_columns_and_constraints() }};
    insert into {{ target }} by name select * from {{ rows }};
    {%- else %}
    create temporary table {{ changed }} as
        with stored as (
            select {{ group }}, count(*) as row_count, sum(hash({{ columns }})) as fingerprint
            from {{ target }} {% if restricted %}where ({{ group }}) in (from {{ note(affected_name()) }}){% endif %}
            group by {{ group }}
        ),
        current as (
            select {{ group }}, count(*) as row_count, sum(hash({{ columns }})) as fingerprint
            from {{ rows }} group by {{ group }}
        )
        select {{ group }} from stored full join current using ({{ group }})
        where stored.row_count is distinct from current.row_count
            or stored.fingerprint is distinct from current.fingerprint;
    delete from {{ target }} where ({{ group }}) in (from {{ changed }});
    insert into {{ target }} by name select * from {{ rows }} where ({{ group }}) in (from {{ changed }});
    {% if restricted %}create table {{ note(model['name']) }} as from {{ changed }};{% endif %}
    {%- endif %}
{% endmacro %}

{#
    Restricts a model to the groups that changes can reach: `groups` is a query for them, from the notes `needed`.
    Returns false where not all of these are there: then the model computes all its rows.
#}
{% macro affected(needed, groups) %}
    {#- A unit test has no table. -#}
    {%- if not execute or not this or not is_incremental() -%}{{ return(false) }}{%- endif -%}
    {%- for name in needed -%}
        {%- if not has_note(name) -%}{{ return(false) }}{%- endif -%}
    {%- endfor -%}
    {%- do run_query('create or replace table ' ~ note(affected_name()) ~ ' as ' ~ groups) -%}
    {{ return(true) }}
{% endmacro %}

{# The note of the groups that changes can reach in this model. #}
{% macro affected_groups() %}{{ return(note(affected_name())) }}{% endmacro %}

{% macro affected_name() %}{{ return('affected_' ~ model['name']) }}{% endmacro %}

{# The relation of a note. #}
{% macro note(name) %}{{ return(this.database ~ '.reading.' ~ name) }}{% endmacro %}

{# Whether something is noted. #}
{% macro has_note(name) %}
    {%- set found = run_query(
        "select 1 from duckdb_tables() where database_name = '" ~ this.database ~ "' and schema_name = 'reading'"
        ~ " and table_name = '" ~ name ~ "'"
    ) -%}
    {{ return(found.rows | length > 0) }}
{% endmacro %}

{# The names and types of a relation's columns, in their order. #}
{% macro column_types(relation) %}
    {%- set types = [] -%}
    {%- for column in adapter.get_columns_in_relation(relation) -%}
        {%- do types.append((column.name, column.data_type)) -%}
    {%- endfor -%}
    {{ return(types) }}
{% endmacro %}

{# The columns in which a stored table forbids NULL. #}
{% macro stored_not_null(relation) %}
    {%- set found = run_query(
        "select column_name from duckdb_columns() where not is_nullable"
        ~ " and database_name = '" ~ relation.database ~ "' and schema_name = '" ~ relation.schema
        ~ "' and table_name = '" ~ relation.identifier ~ "'"
    ) -%}
    {{ return(found.columns[0].values() | list) }}
{% endmacro %}

{# The columns in which the model's contract forbids NULL. #}
{% macro declared_not_null() %}
    {%- set names = [] -%}
    {%- for column in model['columns'].values() -%}
        {%- if column.get('constraints') | selectattr('type', 'equalto', 'not_null') | list -%}
            {%- do names.append(column['name']) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(names) }}
{% endmacro %}
