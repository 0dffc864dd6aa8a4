"""What a run takes in of a source, without Dagster: in the process of a test, or in one that a test kills.

Belongs here: the steps, and the rows that have to be the same wherever and however often they ran.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping, Sequence

import polars as pl

from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.derive.source import Source
from lakehouse.errors import SourceUnavailable
from lakehouse.ingest.discover import discover
from lakehouse.ingest.load import load
from lakehouse.progress import Progress
from lakehouse.settings import settings

WHEN_AND_WHERE = ("ingested_at", "run_id", "sequence", "published_at", "object_version", "load_date", "evaluated_at")
"""Columns that say when and from where a row came."""


def take_everything(source: Source, *, reread: bool = False) -> None:
    """Loads all that is pending at a source, and derives its tables; `reread` also loads again what was read with other
    settings.
    """
    lake = Lake.present()
    days = {*source.partitions_stored(lake)}
    for dataset in source.datasets:
        pending = discover(lake, dataset, retry_failed=True).pending
        asked = {day for item in pending for day in (*item.partitions, item.first_partition)} | days
        days |= asked | load(lake, dataset, sorted(asked), run_id="run", reread=reread).parts
    for table in source.tables:
        table.derive(lake, source, source.together(lake, sorted(days)))


def take_in_process(variables: Mapping[str, str], name: str) -> None:
    """The same, by other settings: for a process that is started for it."""
    os.environ.update(variables)
    settings.cache_clear()
    take_everything(described_source(name))


def rows_of(lake: Lake, *tables: str) -> dict[str, pl.DataFrame]:
    """The rows of tables in one order, without what depends on time and place."""
    found = {}
    for name in tables:
        frame = lake.table(name).to_polars().drop(*WHEN_AND_WHERE, strict=False)
        if "parts" in frame.columns:
            kept = [pl.element().struct.field(each) for each in ("part", "rows", "digest")]
            frame = frame.with_columns(pl.col("parts").list.eval(pl.struct(kept)))
        found[name] = frame.sort(pl.struct(pl.all()).struct.json_encode())
    return found


def say(lake: Lake, batch: Sequence[int], progress: Progress) -> tuple[int, str]:
    """A task that logs what it got; returns its process and folder for temporary files. 13 is an error."""
    logging.getLogger("lakehouse.support").warning("got %d", sum(batch))
    if 13 in batch:
        raise SourceUnavailable("13 can't be used")
    return os.getpid(), tempfile.gettempdir()
