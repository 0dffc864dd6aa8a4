"""The reading of a product: a digest of everything in a source's YAML that decides which rows an object gives.

The ledger keeps it, and it is part of the version under which rows are stored (see `lakehouse.ingest.ledger`). Where
objects are, how they are named and when an API is asked decide nothing about their rows and are left out, and so are
defaults: a release that adds an entry changes no reading.
"""

from __future__ import annotations

import hashlib
import json

from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.ingest.coerce import PROVENANCE
from lakehouse.ingest.dataset import Product
from lakehouse.ingest.ledger import READING_DIGITS


def reading_of(config: SourceConfig, product: Product) -> str:
    """The digest under which objects of a product are read now."""
    contract = config.contract(product.raw_table)
    decides = {
        "product": product.model_dump(mode="json", exclude={"objects", "request"}, exclude_defaults=True),
        "time_zone": config.venue.time_zone,
        "calendar": config.calendar,
        # What is asked by month or as a whole is read from the first session on.
        "first_session": str(config.first_session) if product.request else None,
        "columns": [
            (column.name, str(column.type), column.nullable, column.format)
            for column in contract.columns
            if column.name not in PROVENANCE
        ],
        "rules": sorted((rule.name, rule.holds) for rule in contract.rules),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:READING_DIGITS]
