"""What one section of a `defs.yaml` of reference data adds to its source: datasets, tables, views and checks.

Each folder of this domain makes one product of its section; `source` puts them together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lakehouse.derive.source import Check, DerivedTable, TableQuery
from lakehouse.ingest.dataset import ApiOrigin, Dataset, ObjectOrigin
from lakehouse.ingest.partitioning import Part, Whole
from lakehouse.ingest.reading import reading_digest
from lakehouse.ingest.row_format import RowFormat
from lakehouse.ingest.variables import Variables
from lakehouse.lake.contract import Contract

if TYPE_CHECKING:
    import polars as pl

    from lakehouse.domains.reference.config import SourceConfig


@dataclass(frozen=True)
class Product:
    """What a section adds.

    Args:
        views: name of a table that is not stored -> its query.
        crons: name of a dataset that is updated at times of its own -> its schedule.
        identifiers: the query of its rows of `identifiers`, if it says what identifiers stand for.
    """

    datasets: tuple[Dataset, ...]
    tables: tuple[DerivedTable, ...]
    checks: tuple[Check, ...] = ()
    views: Mapping[str, TableQuery] = field(default_factory=dict)
    identifiers: TableQuery | None = None
    crons: Mapping[str, str] = field(default_factory=dict)


def no_times(text: pl.DataFrame) -> pl.DataFrame:
    """The times of rows that have none of their own: they are of their partition."""
    return text.select()


def undated_dataset(
    config: SourceConfig,
    said: RowFormat,
    variables: Variables,
    contract: Contract,
    name: str,
    what: str,
    origin: ObjectOrigin | ApiOrigin,
    unread: Collection[str],
) -> Dataset:
    """A dataset of a section whose rows have no time: all of a single partition.

    Args:
        what: it has, in its description.
        unread: attributes of the section that say what is asked or listed, and not how a row is read.
    """
    rows = said.model_dump(mode="json", exclude=set(unread), exclude_defaults=True)
    return Dataset(
        source=config.source,
        name=name,
        description=f"{config.description}: {what}",
        table=f"{config.source}/{contract.table}",
        contract=contract,
        rows=said,
        origin=origin,
        partitioning=Whole(),
        partition_column="part",
        part=Part("part"),
        times=no_times,
        reading=reading_digest(contract, {"rows": rows}),
        refusals=config.refusals,
        object_max_bytes=variables.object_max_bytes,
    )
