"""What a `defs.yaml` says about a mapping API that is asked about ISINs, such as OpenFIGI."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from lakehouse.ingest.http.config import Api
from lakehouse.ingest.row_format import RowFormat
from lakehouse.ingest.strict import Strict


class Instruments(Strict):
    """A table of the lake whose instruments are asked about."""

    table: str = Field(pattern=r"^[a-z][a-z0-9_]*/[a-z][a-z0-9_]*$", description="Path, such as xetra/daily_bars.")
    isin: str = Field(description="Column with the ISIN; texts that are none are left out.")
    mic: str | None = Field(
        None, pattern=r"^[0-9A-Z]{4}$", description="Market on which they are listed; unset: it is not asked about."
    )


class Listings(RowFormat):
    """Questions about ISINs and markets, and what their answers look like."""

    name: ClassVar[str] = "listings"

    api: Api
    request: dict[str, str] = Field(
        description="Parameters of a question, with {isin} and {mic} filled in; one that is only {mic} is left out "
        "where no market is known."
    )
    instruments: tuple[Instruments, ...] = Field(
        (),
        description="Whose listings are asked for, besides those in LAKEHOUSE_<SOURCE>_INSTRUMENTS (ISINs, or "
        "ISIN/MIC, separated by commas).",
    )
