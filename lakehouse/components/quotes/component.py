"""The component behind a feed's `defs.yaml`: its tables as assets, their checks, and what keeps them up to date in
Dagster where nobody runs `lakehouse stream`.
"""

from __future__ import annotations

import dagster as dg
from pydantic import BaseModel

from lakehouse.components.checks import table_checks
from lakehouse.components.quotes.assets import feed_assets
from lakehouse.components.quotes.schedules import feed_schedules, feed_sensor
from lakehouse.components.sources.run_tags import tagged_days
from lakehouse.domains.market.quotes.config import FeedConfig
from lakehouse.domains.market.quotes.feed import ERRORS, QUOTES, WINDOWS, Feed
from lakehouse.domains.market.quotes.resolve import feed_of
from lakehouse.settings import settings


class QuoteFeed(dg.Component):
    """Quotes of one vendor: polled, or pushed by a broker, and sliding windows over them.

    The attributes are those of `lakehouse.domains.market.quotes.config.FeedConfig`. The component makes quotes,
    poll_errors, quote_windows and their compaction below the feed's name, partitioned by day (UTC); a job that
    takes in rounds, asked for by a sensor, one that closes each day, and one that compacts the day under way.
    """

    def __init__(self, config: FeedConfig) -> None:
        self.config = config

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return FeedConfig

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> QuoteFeed:
        assert isinstance(attributes, FeedConfig)
        return cls(attributes)

    def resolve(self) -> Feed:
        """The feed by the settings as they are now: definitions outlive a change of them."""
        return feed_of(self.config, settings())

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        feed = self.resolve()
        partitions = dg.DailyPartitionsDefinition(start_date=feed.config.first_day, end_offset=1)
        tables = [dg.AssetSelection.assets([feed.name, table]) for table in (QUOTES, ERRORS, WINDOWS)]
        rounds = dg.define_asset_job(
            f"{feed.name}_rounds",
            selection=tables[0] | tables[1] | tables[2],
            description=f"A minute of {feed.name}: polls it round by round, and makes the windows that it closes.",
            partitions_def=partitions,
        )
        day = dg.define_asset_job(
            f"{feed.name}_day",
            selection=tables[2] | dg.AssetSelection.assets([feed.name, "compaction"]),
            description=f"Windows and files of a day of {feed.name} that is over.",
            partitions_def=partitions,
        )
        hour = dg.define_asset_job(
            f"{feed.name}_hour",
            selection=dg.AssetSelection.assets([feed.name, "rolling_compaction"]),
            description=f"The files of the day of {feed.name} that is under way.",
        )
        return dg.Definitions(
            assets=feed_assets(self.resolve, partitions),
            asset_checks=[
                table_checks(self.resolve, table, lambda tags: tagged_days(tags, partitions))
                for table in dict.fromkeys(check.table for check in feed.checks)
            ],
            jobs=[rounds, day, hour],
            sensors=[feed_sensor(self.resolve, rounds.name)],
            schedules=feed_schedules(feed, day.name, hour.name),
        )
