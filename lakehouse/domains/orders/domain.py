"""Orders: the domain as the catalogue knows it."""

from __future__ import annotations

from functools import partial

from lakehouse.derive.captured_models import attach_clocks
from lakehouse.derive.domain import Domain, Kind
from lakehouse.domains.orders.config import OrdersConfig
from lakehouse.domains.orders.model_inputs import MODEL_TABLES
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
            over_all=MODEL_TABLES,
            marts=("orders", "order_warehouse"),
            attach=partial(attach_clocks, KIND),
        ),
    ),
)
