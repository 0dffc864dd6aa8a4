"""The Dagster component classes behind each `defs.yaml`: they turn a description into assets, checks, jobs,
schedules and sensors. Work itself is done by `lakehouse.pipeline`.
"""

from lakehouse.components.bars.component import MarketSource as MarketSource
from lakehouse.components.quotes.component import QuoteFeed as QuoteFeed
