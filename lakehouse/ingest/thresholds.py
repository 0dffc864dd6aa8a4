"""Thresholds for the share of rejected rows of a source."""

from __future__ import annotations

from pydantic import Field

from lakehouse.ingest.strict import Strict


class RefusalWarning(Strict):
    """The share of rejected rows above which a run warns."""

    warn_pct: float = Field(1.0, gt=0, le=100, description="Share of rejected rows from which a run warns.")


class Refusals(RefusalWarning):
    """The thresholds for rejected rows; rows of days without a partition don't count."""

    fail_pct: float = Field(
        20.0,
        gt=0,
        le=100,
        description="Share of rejected rows from which a run fails and the source is not published; it also fails if "
        "all rows of an object are rejected.",
    )
    fail_rows: int = Field(
        100, ge=1, description="With fewer rows, a run fails only if all rows of an object are rejected."
    )
