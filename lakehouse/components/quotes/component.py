"""The component behind a feed's `defs.yaml`: its tables as assets, their checks, and the automation that updates them
in Dagster if `lakehouse stream` isn't running.
"""

from __future__ import annotations

from datetime import date

import dagster as dg

from lakehouse.components.checks import table_checks
from lakehouse.components.described import DescribedComponent
from lakehouse.components.quotes.assets import feed_assets
from lakehouse.components.quotes.schedules import feed_schedules, feed_sensor
from lakehouse.components.sources.extent import shown_extent
from lakehouse.components.sources.partitions import time_windows
from lakehouse.components.sources.run_tags import tagged_days
from lakehouse.domains.market.quotes.config import FeedConfig
from lakehouse.domains.market.quotes.feed import ERRORS, QUOTES, WINDOWS, Feed
from lakehouse.domains.market.quotes.resolve import feed_of
from lakehouse.ingest.partitioning import Periods
from lakehouse.settings import settings


class QuoteFeed(DescribedComponent):
    """Quotes of one vendor, polled or pushed by a broker, and sliding windows over them.

    The attributes are those of `lakehouse.domains.market.quotes.config.FeedConfig`. The component defines the assets
    quotes, poll_errors, quote_windows and their compaction below the feed's name, partitioned by day (UTC); a polling
    job with its sensor, a job that closes each day, and a job that compacts the current day.
    """

    model = FeedConfig
    config: FeedConfig

    def resolve(self) -> Feed:
        """Resolves the feed with the current settings, which may change after the definitions were loaded."""
        return feed_of(self.config, settings())

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        feed, description = self.resolve(), self.config.model_dump_json()
        partitions = time_windows(Periods("day", date.fromisoformat(feed.config.first_day)), shown_extent(feed))
        tables = [dg.AssetSelection.assets([feed.name, table]) for table in (QUOTES, ERRORS, WINDOWS)]
        rounds = dg.define_asset_job(
            f"{feed.name}_rounds",
            selection=tables[0] | tables[1] | tables[2],
            description=f"Polls {feed.name} for a minute, round by round, and derives the windows that close.",
            partitions_def=partitions,
        )
        day = dg.define_asset_job(
            f"{feed.name}_day",
            selection=tables[2] | dg.AssetSelection.assets([feed.name, "compaction"]),
            description=f"Closes a past day of {feed.name}: derives its windows and compacts its files.",
            partitions_def=partitions,
        )
        hour = dg.define_asset_job(
            f"{feed.name}_hour",
            selection=dg.AssetSelection.assets([feed.name, "rolling_compaction"]),
            description=f"Compacts the current day's files of {feed.name}.",
        )
        return dg.Definitions(
            assets=feed_assets(self.resolve, partitions),
            asset_checks=[
                table_checks(self.resolve, description, table, lambda tags, _: tagged_days(tags, partitions))
                for table in dict.fromkeys(check.table for check in feed.checks)
            ],
            jobs=[rounds, day, hour],
            sensors=[feed_sensor(self.resolve, rounds.name)],
            schedules=feed_schedules(feed, day.name, hour.name),
        )
