"""The instruments of the lake, found by a part of their name, with their last close and the way to it."""

from __future__ import annotations

from collections.abc import Sequence

from lakehouse.api import Lake
from lakehouse.apps.charts.svg import sparkline
from lakehouse.apps.dashboard.answer import Answer, Asked
from lakehouse.apps.dashboard.reading import mart_rows, marts
from lakehouse.lake.sql import literal

_SHOWN = 60
_CLOSES = 40
"""Closes of a sparkline."""


def make(lake: Lake, asked: Asked) -> Answer:
    """The page `/instruments?find=bmw`."""
    words = (asked.text("find") or "")[:80]
    if "fct_daily_bar" not in marts(lake):
        return Answer("instruments.html", {"found": [], "words": words, "total": 0})
    wanted = " AND ".join(
        f"contains(lower(concat_ws(' ', symbol, name, instrument_id, isin, issuer_name)), lower({literal(word)}))"
        for word in words.split()
    )
    found = mart_rows(
        lake,
        f"""
        WITH named AS (
            SELECT source, instrument_id, currency, symbol, name, instrument_type, issuer_name, isin
            FROM marts.dim_instrument WHERE is_current AND {wanted or "true"}
        ), bars AS (
            SELECT bar.source, bar.instrument_id, bar.currency, bar.session, bar.close, bar.close_as_traded,
                bar.split_factor, bar.turnover, bar.change_pct
            FROM marts.fct_daily_bar AS bar SEMI JOIN named USING (source, instrument_id, currency)
        ), counted AS (
            SELECT source, instrument_id, currency, count(*) AS sessions, min(session) AS first, max(session) AS last,
                sum(turnover) AS turnover, count(*) OVER () AS total
            FROM bars GROUP BY source, instrument_id, currency
            ORDER BY turnover DESC NULLS LAST, source, instrument_id, currency LIMIT {_SHOWN}
        ), closes AS (
            SELECT source, instrument_id, currency, list(close_as_traded ORDER BY session) AS closes,
                list(split_factor ORDER BY session) AS split_factors,
                arg_max(close, session) AS close, arg_max(change_pct, session) AS change
            FROM (
                FROM bars SEMI JOIN counted USING (source, instrument_id, currency)
                QUALIFY row_number() OVER (
                    PARTITION BY source, instrument_id, currency ORDER BY session DESC) <= {_CLOSES}
            ) GROUP BY ALL
        )
        FROM counted JOIN named USING (source, instrument_id, currency)
            JOIN closes USING (source, instrument_id, currency)
        ORDER BY turnover DESC NULLS LAST, source, instrument_id, currency
        """,
    )
    for each in found:
        closes = of_one_basis(each["closes"], each["split_factors"])
        each["spark"] = sparkline(closes, f"last {len(closes)} closes of {each['symbol']}, adjusted for splits")
    return Answer(
        "instruments.html", {"found": found, "words": words, "total": found[0]["total"] if found else 0}
    )  # fmt: skip


def of_one_basis(closes: Sequence[float], split_factors: Sequence[float]) -> list[float]:
    """Closes as traded in terms of the last session's shares.

    Args:
        closes: ascending by session.
        split_factors: new shares per old one by each session's splits.
    """
    adjusted, later = [], 1.0
    for close, factor in zip(reversed(closes), reversed(split_factors), strict=True):
        adjusted.append(close / later)
        later *= factor
    return adjusted[::-1]
