"""The tables that are made of a source's files, and search in them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.by_partition import derive_whole, partitions_as_of
from lakehouse.derive.by_tables import FromTables, derive_from_tables, tables_as_of
from lakehouse.derive.source import DerivedTable, Source, Winners
from lakehouse.domains.documents import rules
from lakehouse.domains.documents.meaning import Model
from lakehouse.ingest.ledger import LEDGER
from lakehouse.ingest.versions import ORDER
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Query, Relation, literal, relation_of

if TYPE_CHECKING:
    import duckdb

KIND = "library"
"""Also the schema with the domain's tables over all sources; `documents` is the name of a source."""
FILES = "files"
PRODUCT = "pages"
"""The dataset: the ledger calls it the product."""


def _pages(source: Source, connection: duckdb.DuckDBPyConnection, raw: Relation, ledger: Relation) -> Query:
    return rules.pages(raw, ledger)


PAGES = DerivedTable(
    name="pages",
    description="Pages of the documents that are there now.",
    depends_on=("raw_pages",),
    derive=partial(derive_whole, PRODUCT, "pages", _pages),
    as_of=partial(partitions_as_of, PRODUCT, _pages),
    keeps=Winners(PRODUCT, rules.PAGES),
    is_whole=True,
)
_CHUNKS = FromTables("chunks", ("pages",), rules.chunks)
_POSTINGS = FromTables("postings", ("chunks",), rules.postings)
CHUNKS = DerivedTable(
    name="chunks",
    description="Stretches of the pages' words.",
    depends_on=("pages",),
    derive=partial(derive_from_tables, _CHUNKS),
    as_of=partial(tables_as_of, _CHUNKS),
    is_whole=True,
)
POSTINGS = DerivedTable(
    name="postings",
    description="Which terms are in which chunk.",
    depends_on=("chunks",),
    derive=partial(derive_from_tables, _POSTINGS),
    as_of=partial(tables_as_of, _POSTINGS),
    is_whole=True,
)
TABLES = (PAGES, CHUNKS, POSTINGS)
EMBEDDINGS = "embeddings"


def embeddings(model: Model) -> DerivedTable:
    """The table of the chunks' vectors: those of chunks that were there before are not made again."""
    how = FromTables(EMBEDDINGS, ("chunks",), partial(_embedded, model), by=("chunk_id",), compute=model.embed)
    return DerivedTable(
        name=EMBEDDINGS,
        description="What the chunks mean, as vectors.",
        depends_on=("chunks",),
        derive=partial(derive_from_tables, how),
        as_of=partial(tables_as_of, how),
        is_whole=True,
    )


def _embedded(model: Model, chunks: Relation, vectors: Relation) -> Query:
    return rules.embeddings(chunks, vectors, model.digest)


def files(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> Query:
    """The query for the files by their newest versions, with the reason of those that can't be read."""
    ledger = lake.select(LEDGER, connection, {"source": [source.name]})
    raw = lake.select(source.table("raw_pages"), connection)
    newest = ", ".join(f"{column.split()[0]} DESC NULLS LAST" for column in ORDER)
    return Query(f"""
        WITH newest AS (
            SELECT * FROM ({ledger}) WHERE product = {literal(PRODUCT)}
            QUALIFY row_number() OVER (PARTITION BY object ORDER BY {newest}) = 1
        ),
        content AS (
            SELECT object, object_version, any_value(sha256) AS sha256, any_value(page_count) AS page_count
            FROM ({raw}) GROUP BY ALL
        )
        SELECT newest.object AS name,
            CASE newest.status WHEN 'empty' THEN 'vanished' ELSE newest.status END AS status, newest.error AS reason,
            content.sha256, content.page_count, newest.size, newest.published_at, newest.ingested_at
        FROM newest LEFT JOIN content ON content.object = newest.object
        AND content.object_version = newest.parts[1].object_version
    """)


def search_macro(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> None:
    """Makes the table macro `<source>.search(query, k := 10)` in `connection`."""
    chunks, postings = (relation_of(lake.select(source.table(name), connection)) for name in ("chunks", "postings"))
    connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{source.name}"')
    connection.execute(_statement(f'"{source.name}".search', chunks, postings))


def marts_macro(sources: Sequence[Source], lake: Lake, connection: duckdb.DuckDBPyConnection, catalog: str) -> None:
    """Gives dbt, as the table `search_macro`, the statement for the table macro `marts.search_documents`."""
    made = _statement("marts.search_documents", Relation("marts.document_chunk"), Relation("marts.document_posting"))
    connection.execute(f"CREATE TABLE {catalog}.{KIND}.search_macro AS SELECT {literal(made)} AS statement")


def _statement(name: str, chunks: Relation, postings: Relation) -> str:
    found = rules.search(chunks, postings, "query", "k")
    return f"CREATE OR REPLACE MACRO {name}(query, k := 10) AS TABLE {found}"
