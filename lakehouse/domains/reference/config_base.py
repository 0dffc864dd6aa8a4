"""What every `defs.yaml` of reference data says."""

from __future__ import annotations

from datetime import date

from pydantic import Field

from lakehouse.ingest.strict import Description
from lakehouse.ingest.thresholds import Refusals


class PublisherConfig(Description):
    """A source of reference data."""

    first_day: date = Field(description="Day of the oldest publication that is loaded.")
    cron: str | None = Field(None, description="When the source is updated (UTC), besides what its sensor finds.")
    refusals: Refusals = Refusals()
