select
    -- The same content in two sources is a document of each.
    md5(concat_ws('|', source, chunk_id)) as chunk_id,
    md5(concat_ws('|', source, sha256)) as document_key,
    source,
    name,
    sha256,
    page,
    number,
    term_count,
    body
from {{ source('library', 'chunks') }}
order by source, name, page, number
