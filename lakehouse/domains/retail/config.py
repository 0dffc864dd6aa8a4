"""The models of a retail source's `defs.yaml`: only data and its validation. `resolve` makes a source of them."""

from __future__ import annotations

from datetime import date

from pydantic import Field

from lakehouse.ingest.entry_types import Zone
from lakehouse.ingest.names import Objects
from lakehouse.ingest.row_format import RowFormat
from lakehouse.ingest.strict import Description, Strict
from lakehouse.ingest.thresholds import Refusals


class Collection(Strict):
    """The lines as a collection of MongoDB, where the source's URL is one of `mongodb://`."""

    name: str = Field(description="Name of the collection; the database is that of the URL.")
    rows: RowFormat = Field(description="The format of documents, as jsonl.")
    lag_hours: int = Field(24, ge=1, description="Hours within which a change should be loaded; a check warns if not.")


class RetailConfig(Description):
    """A shop's invoice lines."""

    first_day: date = Field(description="Day from which on the source has partitions; a month is one.")
    time_zone: Zone = Field("UTC", description="The shop's clock, on which an invoice's day is.")
    objects: Objects
    rows: RowFormat
    collection: Collection | None = None
    refusals: Refusals = Refusals()
