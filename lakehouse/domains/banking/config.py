"""The model of a bank's source in a `defs.yaml`."""

from __future__ import annotations

from lakehouse.ingest.postgres.config import CaptureConfig


class BankConfig(CaptureConfig):
    """A bank's database; its day is on the clock of `time_zone`."""
