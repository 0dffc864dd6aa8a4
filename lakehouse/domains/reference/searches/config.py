"""What a `defs.yaml` says about a search API, such as that of PermID."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from lakehouse.ingest.http.config import Api
from lakehouse.ingest.row_format import RowFormat


class Searches(RowFormat):
    """Searches, and what their answers look like."""

    name: ClassVar[str] = "searches"

    api: Api
    request: dict[str, str] = Field(
        description="Parameters of a search, with {query} filled in: one of LAKEHOUSE_<SOURCE>_QUERIES (separated by "
        "commas)."
    )
