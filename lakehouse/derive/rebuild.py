"""Rebuilding a source's tables from its raw tables alone, a feed's windows from its quotes, or verifying that they are
what a rebuild would give.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.incremental import Derived
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.domains.market.corporate_actions.derive import OFFICIAL_TABLES, derive_official
from lakehouse.domains.market.quotes.config import QUOTES, WINDOWS, FeedConfig
from lakehouse.domains.market.quotes.derive import derive_windows
from lakehouse.ingest.ledger import LEDGER, misordered
from lakehouse.lake.lake import Lake
from lakehouse.lake.table import retry_when_stale
from lakehouse.progress import Progress

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild changed (or, verifying, would change) in each table, and of how many objects another version
    counts by it.
    """

    sessions: int
    tables: dict[str, Derived]
    objects_reordered: int = 0

    @property
    def differs(self) -> bool:
        """Whether the stored tables were not what the raw tables give."""
        return self.objects_reordered > 0 or any(derived.changed for derived in self.tables.values())


def stored_sessions(lake: Lake, config: SourceConfig) -> list[date]:
    """Every session that any table of the source has rows of, ascending."""
    found: set[date] = set()
    for name in ("raw_bars", "bars"):
        found |= {
            date.fromisoformat(value) for value in lake.table(config.table(name)).snapshot().partition_values("session")
        }
    found |= set(
        lake.table(config.table("daily_bars"))
        .snapshot()
        .scan()
        .select("session")
        .unique()
        .collect()["session"]
        .to_list()
    )
    return sorted(found)


def rebuild(lake: Lake, config: SourceConfig, *, verify: bool = False, progress: Progress = lambda *_: None) -> Rebuilt:
    """Derives the source's tables of every session again and writes what differs; with `verify` it only compares."""
    reordered = reorder_versions(lake, config, verify=verify)
    sessions = stored_sessions(lake, config)
    tables = {
        "bars": derive_bars(lake, config, sessions, verify=verify, progress=progress),
        "daily_bars": derive_daily_bars(lake, config, sessions, verify=verify, progress=progress),
    }
    if config.official_daily is not None:
        tables |= {table: derive_official(lake, config, table, verify=verify) for table in OFFICIAL_TABLES}
    return Rebuilt(len(sessions), tables, reordered)


def misordered_entries(config: SourceConfig, ledger: pl.LazyFrame) -> pl.DataFrame:
    """The source's entries of earlier releases whose objects hold another version than the last one loaded (see
    `misordered`). An API's answers are named in their order.
    """
    import polars as pl

    delivered = [product.name for product in config.products if product.request is None]
    return misordered(ledger.filter(pl.col("product").is_in(delivered)))


def reorder_versions(lake: Lake, config: SourceConfig, *, verify: bool = False) -> int:
    """Lets each object of a lake from an earlier release hold the version that was loaded last, by an entry that says
    so from now on: as of earlier moments the lake answers as it did. Returns of how many objects that is another one.
    """
    return retry_when_stale(partial(_reordered, lake, config, verify))


def _reordered(lake: Lake, config: SourceConfig, verify: bool) -> int:
    import polars as pl

    snapshot = lake.table(LEDGER).snapshot()
    found = misordered_entries(config, snapshot.scan().filter(pl.col("source") == config.source))
    if found.height and not verify:
        # Failures may have been numbered since: the number is above theirs.
        numbers = snapshot.scan().group_by("object").agg((pl.col("sequence").max().fill_null(0) + 1).alias("sequence"))
        restated = (
            found.drop("sequence")
            .join(numbers.collect(), on="object")
            .with_columns(ingested_at=pl.lit(datetime.now(UTC)).dt.cast_time_unit("us"), run_id=pl.lit(None, pl.String))
        )
        names = [f"{config.source}/{product}/{day}" for product, day in found.select("product", "first_session").rows()]
        schema = snapshot.table.contract.arrow_schema
        snapshot.append(restated.select(schema.names).to_arrow().cast(schema), names)
    return found.height


def rebuild_feed(
    lake: Lake, feed: FeedConfig, *, verify: bool = False, progress: Progress = lambda *_: None
) -> Rebuilt:
    """Derives the feed's windows of every day again and writes what differs; with `verify` it only compares."""
    snapshots = [lake.table(feed.table(table)).snapshot() for table in (QUOTES, WINDOWS)]
    days = sorted({date.fromisoformat(day) for snapshot in snapshots for day in snapshot.partition_values("day")})
    # The windows of a day's last quotes end on the next one.
    days += [days[-1] + timedelta(days=1)] if days else []
    result = Derived()
    for day in days:
        ends = feed.windows.rule.ends_of(day)
        result += derive_windows(lake, feed, *ends, verify=verify, progress=progress)
    return Rebuilt(len(days), {WINDOWS: result})
