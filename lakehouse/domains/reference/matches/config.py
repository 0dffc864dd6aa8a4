"""What a `defs.yaml` says about a record matching API, such as that of PermID."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from lakehouse.ingest.http.config import Api
from lakehouse.ingest.row_format import RowFormat


class Matches(RowFormat):
    """Records of legal entities, and what the entities that they are matched with look like."""

    name: ClassVar[str] = "matches"

    api: Api
    request: dict[str, str] = Field(
        description="Columns of a record, with {lei} filled in: one of LAKEHOUSE_<SOURCE>_LEIS (separated by commas), "
        "or of `tables`."
    )
    tables: dict[str, str] = Field(
        {}, description="Tables of the lake whose entities are matched, too: path -> column with their LEIs."
    )
