"""The checks of a register of markets."""

from __future__ import annotations

from lakehouse.derive.checks import (
    conservation_holds,
    objects_known,
    of_every_dataset,
    of_every_table,
    offenders,
    relation,
)
from lakehouse.derive.source import Check, Finding, Partitions, Source
from lakehouse.domains.reference.contracts import contracts
from lakehouse.domains.reference.markets.derive import PUBLISHED_MARKETS, markets
from lakehouse.domains.reference.shared.checks import no_overlap
from lakehouse.lake.lake import Lake


def market_checks() -> tuple[Check, ...]:
    """The checks of the tables of markets."""
    raw, published = contracts()["raw_markets"], contracts()["published_markets"]
    return (
        *of_every_dataset(raw, "markets"),
        objects_known("raw_markets"),
        *of_every_table(published),
        conservation_holds(PUBLISHED_MARKETS),
        Check(
            published.table,
            "operating_mics_exist",
            "Every operating MIC is a market of the same publication.",
            _operating_mics_exist,
            blocking=True,
        ),
        no_overlap(published.table, markets, "markets", ["mic"]),
    )


def _operating_mics_exist(lake: Lake, source: Source, partitions: Partitions) -> Finding:
    rows = relation(lake, source, PUBLISHED_MARKETS.name, partitions)
    query = f"""
        SELECT published_on, mic, operating_mic FROM {rows} AS segment
        ANTI JOIN {rows} AS operator ON operator.mic = segment.operating_mic
        AND operator.published_on = segment.published_on
    """
    return offenders(lake, query, "ALL", "1 market has an operator that isn't there", "markets have such operators")
