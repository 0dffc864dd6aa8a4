"""Counts the rejected rows of a source, with reasons: a load with most of its rows in the quarantine has failed.

Only the current versions of objects, by their latest reading, are counted. Rows of days without a partition (vendors
send test rows on Saturdays) count neither as received nor as rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from lakehouse.ingest.dataset import Dataset
from lakehouse.ingest.entered import QUARANTINE
from lakehouse.ingest.ledger import LEDGER, about
from lakehouse.ingest.thresholds import Refusals
from lakehouse.ingest.versions import current, held
from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import literal, relation_of

Verdict = Literal["good", "warn", "fail"]
_TOP = 3


@dataclass(frozen=True)
class Refusal:
    """Rows received and rejected, counts by reason (most frequent first), and the objects of which no row was kept."""

    received: int
    refused: int
    reasons: dict[str, int]
    kept_none: list[str]

    @property
    def pct(self) -> float:
        """The rejected share in percent."""
        return 100 * self.refused / self.received if self.received else 0.0

    def verdict(self, bounds: Refusals) -> Verdict:
        """Compares the counts with the thresholds of the source's YAML."""
        if self.kept_none or (self.received >= bounds.fail_rows and self.pct >= bounds.fail_pct):
            return "fail"
        return "warn" if self.pct >= bounds.warn_pct else "good"

    def __str__(self) -> str:
        if not self.refused:
            return "no row was refused"
        top = "; ".join(f"{rows:,} {reason}" for reason, rows in list(self.reasons.items())[:_TOP])
        none = f". No row was kept of {self.kept_none[0]}" if self.kept_none else ""
        more = f" and {len(self.kept_none) - 1:,} other objects" if len(self.kept_none) > 1 else ""
        return f"{self.refused:,} of {self.received:,} rows ({self.pct:.1f}%) were refused: {top}{none}{more}"


def refusal(lake: Lake, dataset: Dataset, partitions: Sequence[date] | None) -> Refusal:
    """The rejected rows of a dataset's objects that cover `partitions` (None: all objects).

    Counted once per version of the ledger and the quarantine: a load asks whether to retry, then two checks ask.
    """
    ledger, quarantine = lake.table(LEDGER).snapshot(), lake.table(QUARANTINE).snapshot()
    days = None if partitions is None else tuple(partitions)
    question = ("refusal", dataset.source, dataset.name, days, quarantine.version, *_in_sql(dataset))
    return ledger.remembered(question, lambda: _counted(lake, dataset, partitions, ledger, quarantine))


def _in_sql(dataset: Dataset) -> tuple[str, str]:
    """The part that a row belongs to, and whether it lies outside of all partitions."""
    return dataset.part.in_sql("session"), f"list_contains(reasons, {literal(dataset.partitioning.without)})"


def _counted(
    lake: Lake, dataset: Dataset, partitions: Sequence[date] | None, ledger: Snapshot, quarantine: Snapshot
) -> Refusal:
    of_source = {"source": [dataset.source]}
    if partitions is None:
        entries = relation_of(f"SELECT * FROM ({ledger.select(of_source)}) WHERE product = {literal(dataset.name)}")
    else:
        entries = relation_of(about(ledger, dataset.source, dataset.name, partitions))
    stored = quarantine.select(of_source)
    part, outside = _in_sql(dataset)
    with lake.connect() as connection:
        connection.execute(
            f"""
            CREATE TEMP TABLE refused AS SELECT stored.object, reasons, {outside} AS is_outside
            FROM (SELECT *, {part} AS part FROM ({stored})) AS stored JOIN ({held(entries)}) AS held
            ON stored.object = held.object AND stored.object_version = held.object_version AND stored.part = held.part
            """
        )
        objects = connection.execute(
            f"""
            SELECT entry.object, rows_received - count(*) FILTER (is_outside) AS received,
                count(*) FILTER (NOT is_outside) AS refused
            FROM ({current(entries)}) AS entry LEFT JOIN refused USING (object)
            WHERE rows_received > 0 GROUP BY entry.object, rows_received ORDER BY entry.object
            """
        ).fetchall()
        reasons = connection.execute(
            "SELECT reason, count(*) FROM (SELECT unnest(reasons) AS reason FROM refused WHERE NOT is_outside) "
            "GROUP BY reason ORDER BY count(*) DESC, reason"
        ).fetchall()
    return Refusal(
        received=sum(received for _, received, _ in objects),
        refused=sum(refused for *_, refused in objects),
        reasons=dict(reasons),
        kept_none=[name for name, received, refused in objects if refused and refused == received],
    )
