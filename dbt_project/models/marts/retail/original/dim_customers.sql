select customer_id as id, country from {{ ref('dim_customer') }} where is_current and customer_id is not null order by all
