"""What a `defs.yaml` says about a map of exchange codes."""

from __future__ import annotations

from typing import ClassVar

from lakehouse.ingest.names import Objects
from lakehouse.ingest.row_format import RowFormat


class ExchangeCodes(RowFormat):
    """A map of exchange codes: every version of the object is the whole map."""

    name: ClassVar[str] = "exchange_codes"

    objects: Objects
