"""What a `defs.yaml` of reference data may say: a section per product that the source delivers."""

from __future__ import annotations

from datetime import date

from pydantic import Field, model_validator

from lakehouse.domains.reference.listings.config import Listings
from lakehouse.domains.reference.markets.config import Markets
from lakehouse.ingest.strict import Description
from lakehouse.ingest.thresholds import Refusals


class SourceConfig(Description):
    """A source of reference data."""

    first_day: date = Field(description="Day of the oldest publication that is loaded.")
    cron: str | None = Field(None, description="When the source is updated (UTC), besides what its sensor finds.")
    refusals: Refusals = Refusals()
    markets: Markets | None = Field(None, description="A register of markets, every object a whole publication.")
    listings: Listings | None = Field(None, description="A mapping API that is asked about ISINs.")

    @model_validator(mode="after")
    def _delivers_something(self) -> SourceConfig:
        if self.markets is None and self.listings is None:
            raise ValueError("the source delivers nothing: describe `markets` or `listings`")
        return self
