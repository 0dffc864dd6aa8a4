select
    md5(concat_ws('|', source, sha256)) as document_key,
    source,
    any_value(name) as name,
    sha256,
    any_value(page_count) as page_count,
    count(body) as text_page_count,
    sum(len(regexp_extract_all(body, '\S+')))::bigint as word_count
from {{ source('library', 'pages') }}
group by source, sha256
order by source, name
