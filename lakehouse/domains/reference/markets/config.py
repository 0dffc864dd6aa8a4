"""What a `defs.yaml` says about a register of markets."""

from __future__ import annotations

from typing import ClassVar

from lakehouse.ingest.names import Objects
from lakehouse.ingest.row_format import RowFormat


class Markets(RowFormat):
    """Whole publications of a register of markets: where they are, how they are named, how rows stand in them."""

    name: ClassVar[str] = "markets"

    objects: Objects
