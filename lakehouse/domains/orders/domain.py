"""Orders: the domain as the catalogue knows it."""

from __future__ import annotations

from lakehouse.derive.domain import Domain, Kind
from lakehouse.domains.orders.config import OrdersConfig
from lakehouse.domains.orders.source import KIND, contracts, orders_source

DOMAIN = Domain(
    name="orders",
    kinds=(
        Kind(
            name=KIND,
            component="OrderCapture",
            model=OrdersConfig,
            resolve=orders_source,
            contracts=contracts,
        ),
    ),
)
