"""The tables and views of searches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.derive.source import Source
from lakehouse.domains.reference.searches import rules
from lakehouse.domains.reference.shared.winning import winning
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import relation_of

if TYPE_CHECKING:
    import duckdb

DATASET = "searches"


FOUND_PERMIDS = winning(
    DATASET,
    "raw_permids",
    "found_permids",
    "The newest answer to each search: organisations, instruments and quotes.",
    rules.FOUND,
)


def permid(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for `<source>.permid`."""
    return rules.permid(relation_of(lake.select(source.table(FOUND_PERMIDS.name), connection)))
