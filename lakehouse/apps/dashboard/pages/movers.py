"""The highest and the lowest changes of a session, with splits marked."""

from __future__ import annotations

from lakehouse.api import Lake
from lakehouse.apps.charts.payload import ratio
from lakehouse.apps.dashboard.answer import Answer, Asked
from lakehouse.apps.dashboard.reading import Row, mart_rows, marts
from lakehouse.lake.sql import literal

_SHOWN = 12


def make(lake: Lake, asked: Asked) -> Answer:
    """The page `/movers?source=xetra&session=2024-03-28`."""
    if "daily_movers" not in marts(lake):
        return Answer("movers.html", {"sources": []})
    sources = [each["source"] for each in mart_rows(lake, "SELECT DISTINCT source FROM marts.daily_movers ORDER BY 1")]
    source = asked.chosen("source", sources, sources[0] if sources else None)
    if source is None:
        return Answer("movers.html", {"sources": []})
    days = [
        each["session"]
        for each in mart_rows(
            lake,
            f"SELECT DISTINCT session FROM marts.daily_movers WHERE source = {literal(source)} ORDER BY session DESC",
        )
    ]
    session = asked.day("session") or days[0]
    earlier = next((day for day in days if day < session), None)
    later = next((day for day in reversed(days) if day > session), None)
    found = of_session(lake, source, str(session), _SHOWN)
    return Answer(
        "movers.html",
        {
            "sources": sources,
            "source": source,
            "session": session,
            "first": days[-1],
            "last": days[0],
            "earlier": earlier,
            "later": later,
            "gains": [each for each in found if each["gain_rank"] <= _SHOWN and each["change"] > 0],
            "losses": sorted(
                (each for each in found if each["loss_rank"] <= _SHOWN and each["change"] < 0),
                key=lambda each: each["loss_rank"],
            ),
            "suspected": _suspected(lake, source, str(session)),
        },
    )


def of_session(lake: Lake, source: str, session: str, shown: int) -> list[Row]:
    """The first ranks of a session by gain and by loss, by currency; `split` in words where one has its ex-date in
    it.
    """
    found = mart_rows(
        lake,
        f"""
        WITH ranked AS (
            SELECT *, least(abs(split_adjusted_change_pct), 1e9) * sign(split_adjusted_change_pct) AS change
            FROM marts.daily_movers
            WHERE source = {literal(source)} AND session = {literal(session)}::DATE
                AND (gain_rank <= {shown} OR loss_rank <= {shown})
        ), splits AS (
            SELECT instrument_id, currency, product(split_coefficient) AS split_coefficient
            FROM marts.fct_corporate_action
            WHERE source = {literal(source)} AND kind = 'split' AND ex_date = {literal(session)}::DATE GROUP BY ALL
        )
        SELECT ranked.*, split_coefficient FROM ranked LEFT JOIN splits USING (instrument_id, currency)
        ORDER BY gain_rank, instrument_id
        """,
    )
    for each in found:
        each["split"] = ratio(each["split_coefficient"]) if each["split_coefficient"] else None
    return found


def _suspected(lake: Lake, source: str, session: str) -> list[Row]:
    """Changes that look like a split of which no corporate action is known."""
    return mart_rows(
        lake,
        f"""
        SELECT instrument_id, currency, symbol, name, prev_close, close, change_pct, suspected_split
        FROM marts.daily_summary
        WHERE source = {literal(source)} AND session = {literal(session)}::DATE AND suspected_split IS NOT NULL
        ORDER BY abs(change_pct) DESC LIMIT {_SHOWN}
        """,
    )
