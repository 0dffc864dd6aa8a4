"""Objects of a source that no load will take: their names match no pattern of its YAML, or they can't be listed.

Every look at the source counts them; the table `skipped_objects` keeps what the last one saw and is written only when
that changes, so that status and checks know it without asking the source.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.table import retry_when_stale
from lakehouse.printable import printable

if TYPE_CHECKING:
    import polars as pl

SKIPPED = "skipped_objects"
_EXAMPLES = 5
_TEXTS = {
    "no pattern": ("1 object matches no pattern", "objects match no pattern"),
    "not listed": ("1 entry can't be listed", "entries can't be listed"),
}


@dataclass(frozen=True)
class Skipped:
    """So many objects that were skipped for one reason (see the contract), and the first of them by name."""

    reason: str
    objects: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        one, several = _TEXTS[self.reason]
        what = f"{one}: " if self.objects == 1 else f"{self.objects:,} {several}, such as "
        return what + printable(self.examples[0])


def skipped(reason: str, names: Iterable[str]) -> Skipped:
    """What was skipped for one reason."""
    found = list(names)
    return Skipped(reason, len(found), tuple(heapq.nsmallest(_EXAMPLES, found)))


def record_skipped(lake: Lake, source: str, found: Iterable[Skipped]) -> None:
    """Writes down what a look at a source skipped, for each reason that differs from what was seen last."""
    import pyarrow as pa

    table = lake.table(SKIPPED)
    seen = {entry.reason: entry for entry in found}

    def work() -> None:
        snapshot = table.snapshot()
        known = _newest(snapshot, source)
        last = known["seen_at"].max()
        moment = datetime.now(UTC)
        if isinstance(last, datetime):
            # A clock that was ahead must not hide what is seen now.
            moment = max(moment, last + timedelta(microseconds=1))
        before = {entry.reason: entry for entry in _entries(known)}
        rows: list[dict[str, Any]] = [
            {"source": source, "seen_at": moment, **vars(entry), "examples": list(entry.examples)}
            for reason, entry in seen.items()
            if entry != before.get(reason, Skipped(reason, 0, ()))
        ]
        if rows:
            snapshot.append(pa.Table.from_pylist(rows, schema=table.contract.arrow_schema), [f"{source}/{SKIPPED}"])

    retry_when_stale(work)


def last_skipped(lake: Lake, source: str) -> list[Skipped]:
    """What the last look at a source skipped; nothing where it was never looked at."""
    return [entry for entry in _entries(_newest(lake.table(SKIPPED).snapshot(), source)) if entry.objects]


def _newest(snapshot: Snapshot, source: str) -> pl.DataFrame:
    import polars as pl

    rows = snapshot.scan().filter(pl.col("source") == source).sort("seen_at").collect()
    return rows.unique("reason", keep="last", maintain_order=True).sort("reason")


def _entries(rows: pl.DataFrame) -> list[Skipped]:
    return [
        Skipped(row["reason"], row["objects"], tuple(row["examples"]))
        for row in rows.select("reason", "objects", "examples").iter_rows(named=True)
    ]
