"""Retail: the domain as the catalogue knows it."""

from __future__ import annotations

from lakehouse.derive.domain import Domain, Kind
from lakehouse.domains.retail.config import RetailConfig
from lakehouse.domains.retail.resolve import KIND, contracts, retail_source
from lakehouse.domains.retail.tables import TABLES

DOMAIN = Domain(
    name="retail",
    kinds=(
        Kind(
            name=KIND,
            component="MongoSource",
            model=RetailConfig,
            resolve=retail_source,
            contracts=contracts,
            over_all=tuple(table.name for table in TABLES),
            marts=("retail", "retail_warehouse"),
        ),
    ),
)
