"""The tables and views of searches."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.by_partition import derive_whole, partitions_as_of
from lakehouse.derive.source import DerivedTable, Source, Winners
from lakehouse.domains.reference.contracts import contracts
from lakehouse.domains.reference.searches import rules
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Relation, relation_of

if TYPE_CHECKING:
    import duckdb

DATASET = "searches"


def _found(source: Source, connection: object, raw: Relation, ledger: Relation) -> str:
    return rules.found(raw, ledger, contracts()["found_permids"].column_names)


FOUND_PERMIDS = DerivedTable(
    name="found_permids",
    description="The newest answer to each search: organisations, instruments and quotes.",
    depends_on=("raw_permids",),
    derive=partial(derive_whole, DATASET, "found_permids", _found),
    as_of=partial(partitions_as_of, DATASET, _found),
    keeps=Winners(DATASET, rules.FOUND),
    is_whole=True,
)


def permid(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for `<source>.permid`."""
    return rules.permid(relation_of(lake.select(source.table(FOUND_PERMIDS.name), connection)))
