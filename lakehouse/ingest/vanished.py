"""Objects that are no longer at their place, as versions of their own without rows.

For places whose objects stand for something that ends when they are removed, such as documents: the next load withdraws
the rows of an object that the ledger knows and the listing lacks. By default, removing a file changes nothing.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

from lakehouse.ingest.ledger import ledger_of
from lakehouse.ingest.listing import Listing
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.lake.lake import Lake

GONE = "gone"
"""The version of an object that is not there."""


@dataclass(frozen=True)
class WithVanished(ObjectSource):
    """A place (see `ObjectSource`), with the objects of a dataset that vanished from it."""

    place: ObjectSource
    lake: Lake
    source: str
    product: str

    def list(self, prefix: str = "") -> Listing:
        """Lists the place, and what vanished as empty objects."""
        import polars as pl

        listed = self.place.list(prefix)
        known = ledger_of(self.lake, self.source).filter(pl.col("product") == self.product)
        names = known.select(name="object").unique().filter(pl.col("name").str.starts_with(prefix)).collect()
        gone = names.join(listed.objects, on="name", how="anti").with_columns(
            version=pl.lit(GONE),
            size=pl.lit(0, pl.Int64),
            published_at=pl.lit(datetime.now(UTC)).cast(pl.Datetime("us", "UTC")),
            tag=pl.lit(GONE),
            path="name",
        )
        objects = pl.concat([listed.objects, gone.select(listed.objects.columns)], how="vertical_relaxed")
        return Listing(objects, listed.passed_over)

    def fetch(self, path: str, tag: str | None) -> IO[bytes]:
        """The object's bytes; none of one that vanished."""
        return io.BytesIO() if tag == GONE else self.place.fetch(path, tag)

    def can_read(self, path: str) -> bool:
        """See `ObjectSource`."""
        return self.place.can_read(path)

    def holds(self, path: str, tag: str | None) -> bool:
        """Whether the object is still that version; one that came back is listed next time."""
        return tag == GONE or self.place.holds(path, tag)
