"""The rows of the quarantine by reason over time. Their texts stay in the lake, since they may name persons."""

from __future__ import annotations

from datetime import date

from lakehouse.api import Lake
from lakehouse.apps.charts.svg import bars
from lakehouse.apps.dashboard.answer import Answer, Asked
from lakehouse.apps.dashboard.reading import Row, bins, rows
from lakehouse.lake.sql import literal

_REASONS = 7
"""Reasons with a colour of their own; the rest is one more."""
_BINS = 40
_SHOWN = 100
_BY = {"session": "session", "load": "load_date"}


def make(lake: Lake, asked: Asked) -> Answer:
    """The page `/quarantine?source=xetra&by=load`."""
    sources = [each["source"] for each in rows(lake, "SELECT DISTINCT source FROM lake.quarantine ORDER BY 1")]
    source = asked.chosen("source", sources)
    by = asked.chosen("by", list(_BY), "session") or "session"
    wanted = "true" if source is None else f"source = {literal(source)}"
    found = rows(
        lake,
        f"""
        SELECT source, reason, {_BY[by]} AS day, count(*) AS rows, max(object) AS last_object
        FROM (SELECT source, session, load_date, object, unnest(reasons) AS reason FROM lake.quarantine WHERE {wanted})
        GROUP BY ALL ORDER BY day
        """,
    )
    return Answer(
        "quarantine.html",
        {
            "sources": sources,
            "source": source,
            "by": by,
            "picture": _picture(found),
            "reasons": _by_reason(found),
            "total": sum(each["rows"] for each in found),
        },
    )


def _by_reason(found: list[Row]) -> list[Row]:
    """A row for each source and reason, the most frequent first."""
    made: dict[tuple[str, str], Row] = {}
    for each in found:
        known = made.setdefault((each["source"], each["reason"]), {**each, "rows": 0, "first": each["day"]})
        known["rows"] += each["rows"]
        known["last"], known["last_object"] = each["day"], each["last_object"]
    return sorted(made.values(), key=lambda each: (-each["rows"], each["source"], each["reason"]))[:_SHOWN]


def _picture(found: list[Row]) -> str | None:
    """The rows by day and reason, stacked."""
    if not found:
        return None
    totals: dict[str, int] = {}
    for each in found:
        totals[each["reason"]] = totals.get(each["reason"], 0) + each["rows"]
    ranked = sorted(totals, key=lambda reason: (-totals[reason], reason))
    of_day = bins([each["day"] for each in found], _BINS)
    days: list[date] = sorted(set(of_day.values()))
    series: dict[str, list[float]] = {}
    for each in found:
        name = each["reason"] if each["reason"] in ranked[:_REASONS] else "other reasons"
        values = series.setdefault(name, [0.0] * len(days))
        values[days.index(of_day[each["day"]])] += each["rows"]
    order = [name for name in (*ranked[:_REASONS], "other reasons") if name in series]
    return bars([str(day) for day in days], {name: series[name] for name in order}, "rows in the quarantine by reason")
