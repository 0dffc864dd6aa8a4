"""The model of a source of orders in a `defs.yaml`."""

from __future__ import annotations

from lakehouse.ingest.postgres.config import CaptureConfig


class OrdersConfig(CaptureConfig):
    """The database of an order system."""
