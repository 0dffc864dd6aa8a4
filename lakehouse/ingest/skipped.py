"""Records the objects of a source that no load takes: their names match no pattern, or they can't be listed.

Each listing of the source counts them. The table `skipped_objects` keeps the last counts and is written only when they
change, so that status and checks needn't list the source.
"""

from __future__ import annotations

import heapq
import re
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
_SHOWN = 3
_DIGITS = re.compile(r"\d+")
_TEXTS = {
    "no pattern": ("1 object matches no pattern", "objects match no pattern"),
    "not listed": ("1 entry can't be listed", "entries can't be listed"),
}


@dataclass(frozen=True)
class Skipped:
    """The number of objects skipped for one reason (see the contract), and some of them: the first of each form of
    names, then others.
    """

    reason: str
    objects: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        one, several = _TEXTS[self.reason]
        what = f"{one}: " if self.objects == 1 else f"{self.objects:,} {several}, such as "
        return what + "; ".join(map(printable, _of_each_form(self.examples)[:_SHOWN]))


def skipped(reason: str, names: Iterable[str]) -> Skipped:
    """Makes a `Skipped` of the names that were skipped for one reason."""
    found = list(names)
    examples = _of_each_form(found)[:_EXAMPLES]
    others = [name for name in heapq.nsmallest(2 * _EXAMPLES, found) if name not in examples]
    return Skipped(reason, len(found), (*examples, *others[: _EXAMPLES - len(examples)]))


def _of_each_form(names: Iterable[str]) -> list[str]:
    """The first of the names that differ only in their digits, by name: a year of one series is one form."""
    first: dict[str, str] = {}
    for name in names:
        form = _DIGITS.sub("0", name)
        first[form] = min(first.get(form, name), name)
    return sorted(first.values())


def record_skipped(lake: Lake, source: str, found: Iterable[Skipped]) -> None:
    """Records what a listing skipped, for each reason whose objects changed since the last record."""
    import pyarrow as pa

    table = lake.table(SKIPPED)
    seen = {entry.reason: entry for entry in found}

    def work() -> None:
        snapshot = table.snapshot()
        known = _newest(snapshot, source)
        last = known["seen_at"].max()
        moment = datetime.now(UTC)
        if isinstance(last, datetime):
            # A clock that was ahead must not hide the new record.
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
    """What the last listing of a source skipped; empty if it was never listed."""
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
