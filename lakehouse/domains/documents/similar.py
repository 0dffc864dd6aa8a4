"""Passages whose meaning is nearest to a text, by the stored vectors of a source's chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.domains.documents import rules
from lakehouse.domains.documents.resolve import model_of
from lakehouse.domains.documents.tables import EMBEDDINGS
from lakehouse.errors import SourceError
from lakehouse.ingest.variables import Variables
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Relation

if TYPE_CHECKING:
    import duckdb


def similar(lake: Lake, variables: Variables, query: str, limit: int, source: str) -> duckdb.DuckDBPyRelation:
    """The passages nearest to a text, best first: name, page (from 1), score (cosine, -1 to 1), body, sha256; none if
    the model knows no word of it.

    Raises:
        SourceError: the settings name no model for the source, or there is none in its folder.
    """
    model = model_of(source, variables)
    if model is None:
        raise SourceError(
            f"{source} has no model to search by meaning: set LAKEHOUSE_{source.upper()}_MODEL to the folder of a "
            f"Model2Vec model, and run lakehouse update {source}"
        )
    (wanted,) = model.vectors([query])
    chunks, vectors = Relation(f'"{source}".chunks'), Relation(f'"{source}".{EMBEDDINGS}')
    found = lake.sql(rules.similar(chunks, vectors, model.digest, wanted or [], limit if wanted else 0))
    assert found is not None
    return found
