"""Objects that tests read without a store."""

from __future__ import annotations

from io import BytesIO

from lakehouse.domains.market.bars.products import Product
from lakehouse.ingest.formats import BlockReader, Received, read_whole

LIMIT = 1_000_000_000


def read_object(name: str, data: bytes, product: Product) -> Received:
    """An object that fits in memory, read at once."""
    whole = read_whole(BlockReader(name, BytesIO(data), product, LIMIT))
    assert whole is not None
    return whole
