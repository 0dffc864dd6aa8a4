"""The component behind a shop's `defs.yaml`."""

from __future__ import annotations

from lakehouse.components.sources.component import SourceComponent
from lakehouse.derive.source import Source
from lakehouse.domains.retail.config import RetailConfig
from lakehouse.domains.retail.resolve import retail_source
from lakehouse.settings import settings


class MongoSource(SourceComponent):
    """A shop's invoice lines: a collection of MongoDB, or daily files in a folder or bucket.

    The attributes are those of `lakehouse.domains.retail.config.RetailConfig`. The component makes raw_lines and
    sale_lines, partitioned by month, and items, item_prices, customers and cancellations of them.
    """

    model = RetailConfig
    config: RetailConfig

    def resolve(self) -> Source:
        return retail_source(self.config, settings())
