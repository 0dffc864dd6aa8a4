"""The ledger: what became of every object version. It is what makes loading exactly-once, so only this module
decides what is still to be done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.lake.lake import Lake

if TYPE_CHECKING:
    import polars as pl

LEDGER = "ingest_ledger"


def ledger_of(lake: Lake, source: str) -> pl.LazyFrame:
    """The ledger's rows of a source: every object version that it ever answered for. Collect the columns you need."""
    import polars as pl

    return lake.table(LEDGER).scan().filter(pl.col("source") == source)


def failed_objects(ledger: pl.LazyFrame) -> pl.DataFrame:
    """The objects whose newest version could not be read: session, object, error; sorted."""
    import polars as pl

    newest = ledger.sort("published_at", "ingested_at").unique("object", keep="last", maintain_order=True)
    failed = newest.filter(pl.col("status") == "failed").select("session", "object", "error")
    return failed.sort("session", "object").collect()


def pending(listed: pl.DataFrame, ledger: pl.LazyFrame, *, retry_failed: bool) -> pl.DataFrame:
    """The listed object versions (columns name, version, ...) that are still to be loaded.

    A failed version is done with, until its source replaces it, unless `retry_failed` (somebody asked for it,
    perhaps after mending the source's YAML).
    """
    import polars as pl

    done = ledger.filter(pl.col("status") != "failed") if retry_failed else ledger
    taken = done.select("object", "object_version").collect()
    return listed.join(taken, left_on=["name", "version"], right_on=["object", "object_version"], how="anti")
