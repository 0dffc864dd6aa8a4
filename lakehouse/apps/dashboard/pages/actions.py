"""Splits and dividends by their ex-dates."""

from __future__ import annotations

from lakehouse.api import Lake
from lakehouse.apps.charts.payload import ratio
from lakehouse.apps.dashboard.answer import Answer, Asked
from lakehouse.apps.dashboard.reading import mart_row, mart_rows, marts
from lakehouse.lake.sql import literal

_SHOWN = 200


def make(lake: Lake, asked: Asked) -> Answer:
    """The page `/actions?kind=split`."""
    kind = asked.chosen("kind", ["split", "dividend"])
    if "fct_corporate_action" not in marts(lake):
        return Answer("actions.html", {"found": [], "kind": kind, "counts": {}})
    counts = mart_row(
        lake,
        """
        SELECT count(*) FILTER (kind = 'split') AS splits, count(*) FILTER (kind = 'dividend') AS dividends,
            count(DISTINCT (source, instrument_id)) AS instruments, max(known_at) AS known_at
        FROM marts.fct_corporate_action
        """,
    )
    wanted = "true" if kind is None else f"kind = {literal(kind)}"
    found = mart_rows(
        lake,
        f"""
        SELECT action.*, instrument.symbol, instrument.name
        FROM marts.fct_corporate_action AS action LEFT JOIN marts.dim_instrument AS instrument USING (instrument_key)
        WHERE {wanted} ORDER BY ex_date DESC, action.source, action.instrument_id, kind LIMIT {_SHOWN}
        """,
    )
    for each in found:
        each["ratio"] = ratio(each["split_coefficient"]) if each["split_coefficient"] else None
    total = counts["splits"] * (kind != "dividend") + counts["dividends"] * (kind != "split")
    return Answer("actions.html", {"found": found, "kind": kind, "counts": counts, "total": total})
