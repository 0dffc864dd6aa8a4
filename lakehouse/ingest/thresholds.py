"""How much of what a source sends may be refused."""

from __future__ import annotations

from pydantic import Field

from lakehouse.ingest.strict import Strict


class RefusalWarning(Strict):
    """How much of what a vendor sends may be refused without a word."""

    warn_pct: float = Field(1.0, gt=0, le=100, description="From this share on a run warns.")


class Refusals(RefusalWarning):
    """How much of what a source sends may be refused; rows of days without a partition don't count."""

    fail_pct: float = Field(
        20.0,
        gt=0,
        le=100,
        description="From this share on a run fails, and the source is not published; likewise where an object with "
        "rows kept none.",
    )
    fail_rows: int = Field(100, ge=1, description="Fewer rows than these fail only where an object kept none.")
