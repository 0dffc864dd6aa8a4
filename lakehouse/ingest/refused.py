"""How much of what a source sent was refused, and why: a load of which most rows went to the quarantine has failed.

Counted are the current versions of objects by their latest reading. Rows outside the calendar's sessions (vendors send
test bars on Saturdays) count neither as received nor as refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.ingest.dataset import Product
from lakehouse.ingest.entered import QUARANTINE
from lakehouse.ingest.ledger import LEDGER, about
from lakehouse.ingest.versions import current, held
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import literal

Verdict = Literal["good", "warn", "fail"]
_TOP = 3


@dataclass(frozen=True)
class Refusal:
    """Rows received and refused, how often for which reason (the most frequent first), and the objects of which no row
    was kept.
    """

    received: int
    refused: int
    reasons: dict[str, int]
    kept_none: list[str]

    @property
    def pct(self) -> float:
        """The refused share in percent."""
        return 100 * self.refused / self.received if self.received else 0.0

    def verdict(self, config: SourceConfig) -> Verdict:
        """By the thresholds of the source's YAML."""
        bounds = config.refusals
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


def outside_calendar(calendar: str) -> str:
    """The reason against a row whose day is no session."""
    return f"the day is no session of {calendar}"


def refusal(lake: Lake, config: SourceConfig, product: type[Product], sessions: Sequence[date] | None) -> Refusal:
    """What was refused of a product's objects about `sessions` (None: of all)."""
    of_source = {"source": [config.source]}
    ledger = lake.table(LEDGER).snapshot()
    if sessions is None:
        entries = f"(SELECT * FROM ({ledger.select(of_source)}) WHERE product = {literal(product.name)})"
    else:
        entries = f"({about(ledger, config.source, product.name, sessions)})"
    stored = lake.table(QUARANTINE).snapshot().select(of_source)
    part = "session" if product.part == "session" else f"date_trunc('{product.part}', session)::DATE"
    outside = f"list_contains(reasons, {literal(outside_calendar(config.calendar))})"
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
