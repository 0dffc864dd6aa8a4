{{ config(
    materialized='incremental',
    incremental_strategy='changed_groups',
    unique_key=['source', 'day'],
    on_schema_change='append_new_columns',
) }}

{%- set restricted = affected(['quote_windows'], 'select source, day from ' ~ note('quote_windows')) %}

-- Not sorted: this is by far the largest table of the warehouse, and the lake stores it by day and window_end.
select
    source,
    day,
    resolution_minutes,
    window_end,
    symbol,
    mean_price,
    first_price,
    last_price,
    min_price,
    max_price,
    quote_count,
    percentage_gain,
    revision,
    closed_at
from {{ ref('stg_quote_windows') }}
{% if restricted %}where (source, day) in (from {{ affected_groups() }}){% endif %}
