"""The component behind a feed's `defs.yaml`: its tables as assets, their checks, and what keeps them up to date in
Dagster where nobody runs `lakehouse stream`.
"""

from __future__ import annotations

import dagster as dg
from pydantic import BaseModel

from lakehouse.components.bars.run_tags import tagged_days
from lakehouse.components.checks import table_checks
from lakehouse.components.quotes.assets import feed_assets
from lakehouse.components.quotes.schedules import feed_schedules, feed_sensor
from lakehouse.domains.market.quotes.checks import FEED_CHECKS
from lakehouse.domains.market.quotes.config import ERRORS, QUOTES, WINDOWS, FeedConfig


class QuoteFeed(dg.Component):
    """Quotes of one vendor: polled, or pushed by a broker, and sliding windows over them.

    The attributes are those of `lakehouse.domains.market.quotes.config.FeedConfig`. The component makes quotes,
    poll_errors, quote_windows and their compaction below the feed's name, partitioned by day (UTC); a job that
    takes in rounds, asked for by a sensor, one that closes each day, and one that compacts the day under way.
    """

    def __init__(self, feed: FeedConfig) -> None:
        self.feed = feed

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return FeedConfig

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> QuoteFeed:
        assert isinstance(attributes, FeedConfig)
        return cls(attributes)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        feed = self.feed
        partitions = dg.DailyPartitionsDefinition(start_date=feed.first_day, end_offset=1)
        tables = [dg.AssetSelection.assets([feed.source, table]) for table in (QUOTES, ERRORS, WINDOWS)]
        rounds = dg.define_asset_job(
            f"{feed.source}_rounds",
            selection=tables[0] | tables[1] | tables[2],
            description=f"A minute of {feed.source}: polls it round by round, and makes the windows that it closes.",
            partitions_def=partitions,
        )
        day = dg.define_asset_job(
            f"{feed.source}_day",
            selection=tables[2] | dg.AssetSelection.assets([feed.source, "compaction"]),
            description=f"Windows and files of a day of {feed.source} that is over.",
            partitions_def=partitions,
        )
        hour = dg.define_asset_job(
            f"{feed.source}_hour",
            selection=dg.AssetSelection.assets([feed.source, "rolling_compaction"]),
            description=f"The files of the day of {feed.source} that is under way.",
        )
        return dg.Definitions(
            assets=feed_assets(feed, partitions),
            asset_checks=[
                table_checks(feed, table, FEED_CHECKS, lambda tags: tagged_days(tags, partitions))
                for table in dict.fromkeys(check.table for check in FEED_CHECKS)
            ],
            jobs=[rounds, day, hour],
            sensors=[feed_sensor(feed, rounds.name)],
            schedules=feed_schedules(feed, day.name, hour.name),
        )
