"""Rebuilds a source's tables from its raw tables alone, or verifies that they equal a rebuild."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.incremental import DeriveResult
from lakehouse.derive.source import Source
from lakehouse.ingest.dataset import Dataset
from lakehouse.ingest.ledger import LEDGER, misordered
from lakehouse.lake.lake import Lake
from lakehouse.lake.table import retry_when_stale
from lakehouse.progress import Progress

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class RebuildResult:
    """What a rebuild changed (with `verify`: would change) in each table, and for how many objects another version
    counts now.
    """

    partitions: int
    tables: dict[str, DeriveResult]
    objects_reordered: int = 0

    @property
    def differs(self) -> bool:
        """Whether the stored tables differed from the rebuilt ones."""
        return self.objects_reordered > 0 or any(derived.changed for derived in self.tables.values())


def rebuild(lake: Lake, source: Source, *, verify: bool = False, progress: Progress = lambda *_: None) -> RebuildResult:
    """Derives every partition of the source's tables again and writes what differs; with `verify` only compares."""
    reordered = reorder_versions(lake, source.datasets, verify=verify) if source.datasets else 0
    partitions = source.partitions_stored(lake)
    tables = {
        table.name: table.derive(lake, source, partitions, afresh=True, verify=verify, progress=progress)
        for table in source.tables
    }
    return RebuildResult(len(partitions), tables, reordered)


def misordered_entries(datasets: Sequence[Dataset], ledger: pl.LazyFrame) -> pl.DataFrame:
    """The ledger entries of earlier releases whose objects have another version than the last one loaded (see
    `misordered`). API answers are left out, since their names order them.
    """
    import polars as pl

    delivered = [dataset.name for dataset in datasets if not dataset.is_asked]
    return misordered(ledger.filter(pl.col("product").is_in(delivered)))


def reorder_versions(lake: Lake, datasets: Sequence[Dataset], *, verify: bool = False) -> int:
    """For lakes of earlier releases: appends ledger entries so that from now on each object's last loaded version
    counts; reads as of earlier moments don't change. Returns the number of affected objects.
    """
    return retry_when_stale(partial(_reordered, lake, datasets, verify))


def _reordered(lake: Lake, datasets: Sequence[Dataset], verify: bool) -> int:
    import polars as pl

    source = datasets[0].source
    snapshot = lake.table(LEDGER).snapshot()
    found = misordered_entries(datasets, snapshot.scan().filter(pl.col("source") == source))
    if found.height and not verify:
        # Failures may have been numbered since, so use a higher number.
        numbers = snapshot.scan().group_by("object").agg((pl.col("sequence").max().fill_null(0) + 1).alias("sequence"))
        restated = (
            found.drop("sequence")
            .join(numbers.collect(), on="object")
            .with_columns(ingested_at=pl.lit(datetime.now(UTC)).dt.cast_time_unit("us"), run_id=pl.lit(None, pl.String))
        )
        names = [f"{source}/{product}/{day}" for product, day in found.select("product", "first_session").rows()]
        schema = snapshot.table.contract.arrow_schema
        snapshot.append(restated.select(schema.names).to_arrow().cast(schema), names)
    return found.height
