"""What a correct lake makes of a simulated feed: the records of `Exchange.truth`.

Only statements about a feed belong here; the dirt that makes them true is made in `dirt`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal, get_args

import polars as pl

from lakehouse.simulators.market_model import Rename, Split, in_currency_units

Stage = Literal["first", "late", "repaired", "corrected"]
"""What the vendor publishes together: the feed itself; the object that was missing; the damaged object, whole
again; the corrected version of another."""
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True)
class RowCounts:
    """What became of the rows received; `quarantined` counts them by kind of fault."""

    received: int = 0
    kept: int = 0
    duplicates: int = 0
    superseded: int = 0
    quarantined: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: RowCounts) -> RowCounts:
        kinds = {*self.quarantined, *other.quarantined}
        return RowCounts(
            received=self.received + other.received,
            kept=self.kept + other.kept,
            duplicates=self.duplicates + other.duplicates,
            superseded=self.superseded + other.superseded,
            quarantined={k: self.quarantined.get(k, 0) + other.quarantined.get(k, 0) for k in sorted(kinds)},
        )


@dataclass(frozen=True)
class DirtyRow:
    """A row put among the sound ones: a broken one, or a bar's second copy.

    `row_number` counts the object's rows from 1, without the header; `kind` is a key of `dirt.FAULTS` or
    "duplicate"; `text` is the row as written.
    """

    object: str
    row_number: int
    kind: str
    text: str


@dataclass(frozen=True)
class CorrectedBar:
    """A bar whose last version differs from its first: it was "changed", "added" or "withdrawn"."""

    object: str
    kind: Literal["changed", "added", "withdrawn"]
    isin: str
    currency: str
    start_at: datetime


@dataclass(frozen=True)
class ObjectTruth:
    """What the ledger should hold of an object version: `status` is loaded, empty (header only) or failed."""

    name: str
    stage: Stage
    status: Literal["loaded", "empty", "failed"]
    received: int
    quarantined: int


@dataclass(frozen=True)
class Truth:
    """The dirt of a feed, place by place, and what is left when it has been dealt with.

    Objects are None, and `test_day` too, where the feed has no such dirt (or no room for it).
    `zero_volume_bars` are the technical bars dated on a session, of all stages; they count as kept.
    """

    test_day: date | None
    late_object: str | None
    damaged_object: str | None
    corrected_object: str | None
    zero_volume_bars: int
    dirty_rows: tuple[DirtyRow, ...]
    corrected_bars: tuple[CorrectedBar, ...]
    splits: tuple[Split, ...]
    renames: tuple[Rename, ...]
    objects: tuple[ObjectTruth, ...]
    counts_of: Mapping[Stage, RowCounts]
    bars_after: Callable[[tuple[Stage, ...]], pl.DataFrame]

    def counts(self, *stages: Stage) -> RowCounts:
        """The rows' fate after these stages (all if none is named), "first" loaded before the others."""
        total = RowCounts()
        for stage in stages or STAGES:
            total += self.counts_of[stage]
        return total

    def daily_bars(self, *stages: Stage) -> pl.DataFrame:
        """The daily bars after these stages (all of them if none is named), from the model's numbers.

        Columns isin, currency, session, open, high, low, close (currency units), volume, trades, bar_count,
        first_bar_at, last_bar_at (UTC, microseconds); ordered by isin, currency, session.
        """
        start_at = (pl.col("minute") * 60_000_000).cast(pl.Datetime("us", "UTC"))
        daily = (
            self.bars_after(stages or STAGES)
            .filter(pl.col("volume") > 0)
            .sort("minute")
            .group_by("isin", "currency", "session", maintain_order=True)
            .agg(
                pl.col("open").first(),
                pl.col("high").max(),
                pl.col("low").min(),
                pl.col("close").last(),
                pl.col("volume").sum().cast(pl.Float64),
                pl.col("trades").sum(),
                pl.len().cast(pl.Int64).alias("bar_count"),
                start_at.first().alias("first_bar_at"),
                start_at.last().alias("last_bar_at"),
            )
            .sort("isin", "currency", "session")
        )
        return daily.with_columns(in_currency_units(daily[name]) for name in ("open", "high", "low", "close"))
