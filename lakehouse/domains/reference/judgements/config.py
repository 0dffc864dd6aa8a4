"""What a `defs.yaml` says about decisions."""

from __future__ import annotations

from typing import ClassVar

from lakehouse.ingest.names import Objects
from lakehouse.ingest.row_format import RowFormat


class Judgements(RowFormat):
    """Decisions of persons about proposals: an object for each."""

    name: ClassVar[str] = "judgements"

    objects: Objects
