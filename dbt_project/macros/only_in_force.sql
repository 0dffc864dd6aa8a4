{#
    The facts that were in force on a day, from candidates with valid_from and valid_to: for each `key`, the columns of
    the candidates in force on the day `as_of_day`, or else of the first ones after it, since a publisher's oldest
    statement counts for the time before it. Where candidates differ, the columns are NULL: nothing picks one of them.
#}
{% macro only_in_force(candidates, key, columns, as_of_day) %}
    select
        {{ key }},
        {% for column in columns %}
        case when count(distinct hash({{ columns | join(', ') }})) = 1 then any_value({{ column }}) end as {{ column }}
        {{- "," if not loop.last }}
        {% endfor %}
    from (
        from {{ candidates }}
        where valid_to > {{ as_of_day }}
        qualify rank() over (
            partition by {{ key }} order by case when valid_from <= {{ as_of_day }} then {{ as_of_day }} else valid_from end
        ) = 1
    )
    group by {{ key }}
{% endmacro %}
