{{ config(post_hook="{{ create_search_macro() }}") }}
select
    term,
    md5(concat_ws('|', source, chunk_id)) as chunk_id,
    term_count
from {{ source('library', 'postings') }}
order by term, chunk_id
