"""The ledger: what became of every object version. It is what makes loading exactly-once, so only this module
decides what is still to be done.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from lakehouse.lake.lake import Lake
from lakehouse.lake.literals import literal
from lakehouse.lake.snapshot import Snapshot

if TYPE_CHECKING:
    import polars as pl

LEDGER = "ingest_ledger"


def ledger_of(lake: Lake, source: str) -> pl.LazyFrame:
    """The ledger's rows of a source: every object version that it ever answered for. Collect the columns you need."""
    import polars as pl

    return lake.table(LEDGER).scan().filter(pl.col("source") == source)


def about(ledger: Snapshot, source: str, product: str, sessions: Sequence[date]) -> str:
    """A DuckDB query for the ledger's rows about a product's objects that may hold rows of `sessions`, in all of
    their versions.
    """
    if not sessions:
        return f"SELECT * FROM ({ledger.select({'source': [source]})}) WHERE false"
    return f"""
        SELECT * FROM ({ledger.select({"source": [source]})}) WHERE product = {literal(product)} AND object IN (
            SELECT object FROM ({ledger.select({"source": [source]})})
            WHERE first_session <= {literal(max(sessions))} AND last_session >= {literal(min(sessions))}
        )
    """


def failed_objects(ledger: pl.LazyFrame) -> pl.DataFrame:
    """The objects of which the last news was that they could not be read: product, first_session, last_session,
    object, error; sorted.
    """
    import polars as pl

    newest = ledger.sort("ingested_at", "published_at").unique("object", keep="last", maintain_order=True)
    failed = newest.filter(pl.col("status") == "failed")
    columns = ("product", "first_session", "last_session", "object", "error")
    return failed.select(columns).sort("first_session", "object").collect()


def pending(listed: pl.DataFrame, ledger: pl.LazyFrame, *, retry_failed: bool) -> pl.DataFrame:
    """The listed object versions (columns name, version, ...) that are still to be loaded.

    A failed version is done with, until its source replaces it, unless `retry_failed` (somebody asked for it,
    perhaps after mending the source's YAML).
    """
    import polars as pl

    done = ledger.filter(pl.col("status") != "failed") if retry_failed else ledger
    taken = done.select("object", "object_version").collect()
    return listed.join(taken, left_on=["name", "version"], right_on=["object", "object_version"], how="anti")
