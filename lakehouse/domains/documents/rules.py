"""The rules of documents: pages that count, chunks, postings and BM25 over them, and similarity of meaning.

Pure functions that make DuckDB queries. Search needs no extension: Okapi BM25 (Robertson and Zaragoza 2009) with
k1 = 1.2 and b = 0.75 over tables of postings, so that any DuckDB can run it.
"""

from __future__ import annotations

from collections.abc import Sequence

from lakehouse.derive.revisions import RevisionRule, winners
from lakehouse.lake.sql import Query, Relation, literal

PAGES = RevisionRule(key=("sha256", "page"), content=("page_count", "body"), part="part")
_CHUNK_WORDS = 120
_K1, _B = 1.2, 0.75
_EXCERPT, _EXCERPT_BEFORE = 160, 40
"""Characters of an excerpt, and those before its first term."""


def terms(text: str) -> str:
    """The SQL expression for the list of terms in a text: of two characters and more, without accents."""
    parts = f"string_split_regex(lower(strip_accents({text})), '[^a-z0-9]+')"
    return f"list_filter({parts}, lambda term: length(term) > 1)"


def excerpt(text: str, query: str) -> str:
    """The SQL expression for the part of a text around the first of a query's terms in it."""
    line = f"regexp_replace({text}, '\\s+', ' ', 'g')"
    places = f"list_transform({terms(query)}, lambda term: strpos(lower(strip_accents({line})), term))"
    first = f"coalesce(list_min(list_filter({places}, lambda place: place > 0)), 1)"
    return f"substr({line}, greatest({first} - {_EXCERPT_BEFORE}, 1), {_EXCERPT})"


def pages(raw: Relation, ledger: Relation) -> Query:
    """The pages of the documents that are there now."""
    return Query(f"SELECT part, sha256, name, page, page_count, body FROM ({winners(raw, ledger, PAGES)})")


def chunks(pages: Relation) -> Query:
    """The pages' words, some at a time."""
    return Query(f"""
        WITH words AS (
            SELECT part, sha256, name, page, regexp_extract_all(body, '\\S+') AS words
            FROM {pages} WHERE body IS NOT NULL
        ),
        numbered AS (
            SELECT *, unnest(generate_series(1, (len(words) + {_CHUNK_WORDS - 1}) // {_CHUNK_WORDS})) AS number
            FROM words
        ),
        divided AS (
            SELECT part, sha256, name, page, number, array_to_string(
                words[(number - 1) * {_CHUNK_WORDS} + 1:number * {_CHUNK_WORDS}], ' '
            ) AS body FROM numbered
        )
        SELECT part, md5(concat_ws('|', sha256, page, number)) AS chunk_id, sha256, name, page, number,
            len({terms("body")}) AS term_count, body
        FROM divided
    """)


def postings(chunks: Relation) -> Query:
    """How often each term is in each chunk."""
    return Query(f"""
        SELECT part, term, chunk_id, count(*) AS term_count
        FROM (SELECT part, chunk_id, unnest({terms("body")}) AS term FROM {chunks}) GROUP BY ALL
    """)


def embeddings(chunks: Relation, vectors: Relation, model: str) -> Query:
    """The chunks' vectors, without those whose words a model doesn't know.

    Args:
        vectors: chunk_id, vector (see `meaning`).
        model: digest of the model.
    """
    return Query(f"""
        SELECT part, chunk_id, {literal(model)} AS model, vector FROM {chunks} AS chunks
        JOIN {vectors} AS vectors USING (chunk_id) WHERE vector IS NOT NULL
    """)


def similar(chunks: Relation, embeddings: Relation, model: str, wanted: Sequence[float], limit: int) -> Query:
    """The chunks whose meaning is nearest to a vector (cosine), best first: document, page, score, body.

    Args:
        model: digest of the model that gave the vector.
    """
    score = f"list_cosine_similarity(vector, {[*wanted]}::DOUBLE[])"
    return Query(f"""
        SELECT name, page, round({score}, 6) AS score, body, sha256
        FROM {embeddings} AS embedded JOIN {chunks} AS chunks USING (chunk_id)
        WHERE model = {literal(model)} ORDER BY score DESC, name, page, number LIMIT {limit}
    """)


def search(chunks: Relation, postings: Relation, query: str, limit: str) -> Query:
    """The chunks that have terms of a query, best first: document, page, score, body.

    Args:
        query: SQL text of the searched text.
        limit: SQL text of how many chunks to return.
    """
    return Query(f"""
        WITH asked AS (SELECT DISTINCT unnest({terms(query)}) AS term),
        corpus AS (SELECT count(*) AS chunk_count, avg(term_count) AS mean_length FROM {chunks}),
        found AS (SELECT * FROM {postings} SEMI JOIN asked USING (term)),
        rarity AS (
            SELECT term, ln(1 + (any_value(chunk_count) - count(*) + 0.5) / (count(*) + 0.5)) AS weight
            FROM found, corpus GROUP BY term
        )
        SELECT name, page, round(sum(
            weight * found.term_count * {_K1 + 1}
            / (found.term_count + {_K1} * ({1 - _B} + {_B} * chunks.term_count / mean_length))
        ), 6) AS score, body, sha256
        FROM found JOIN rarity USING (term) JOIN {chunks} AS chunks ON chunks.chunk_id = found.chunk_id, corpus
        GROUP BY chunks.chunk_id, name, page, number, body, sha256 ORDER BY score DESC, name, page, number LIMIT {limit}
    """)
