"""What the script of a chart draws, as JSON: the bars on one or two adjustment bases, the axis, and the marks.

Daily bars lie on the numbers of their sessions, so that days without trading take no room; the bars of one session lie
on the minutes since the hour in which its regular segment begins, on the exchange's clock.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from lakehouse.domains.market.bars.chart import Chart
from lakehouse.printable import printable

AS_TRADED, ADJUSTED = "As traded", "Adjusted"
"""Names of the bases."""
_MINUTE = timedelta(minutes=1)
_COLUMNS = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}


def payload(views: Mapping[str, Chart], *, is_log: bool = False, shown: int | None = None) -> dict[str, Any]:
    """What to draw of one instrument.

    Args:
        views: name of a basis -> the same bars on it; the first is shown at first.
        is_log: whether the axis of prices is logarithmic at first.
        shown: how many of the last sessions are shown at first; all by default.
    """
    first = next(iter(views.values()))
    found: dict[str, Any] = {"title": printable(first.title), "log": is_log, "shown": shown, "marks": []}
    if first.bars is None:
        found |= {"kind": "daily", "sessions": [str(session) for session in first.sessions], "marks": _marks(first)}
        drawn = {name: _daily(chart) for name, chart in views.items()}
    else:
        found |= {"kind": "intraday", **_axis(first)}
        drawn = {name: _bars(chart) for name, chart in views.items()}
    about = {name: {"notes": notes_of(chart), "figures": figures_of(chart)} for name, chart in views.items()}
    return found | {"views": [{"name": name, **drawn[name], **about[name]} for name in views]}


def as_script(found: Mapping[str, Any]) -> str:
    """The JSON for a script element, in which only `</` and `<!--` would end or change it."""
    return json.dumps(found, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def notes_of(chart: Chart) -> str:
    """What one has to know about the prices, on one line."""
    return printable(" · ".join(chart.notes))


def figures_of(chart: Chart) -> dict[str, str]:
    """Open, high, low, close, volume and change of all that is drawn."""
    return {name: printable(text) for name, text in chart.figures.items()}


def mark_text(action: Mapping[str, Any]) -> str:
    """A corporate action in words, such as `Split 4:1 on 2024-03-14`."""
    if action["kind"] == "split":
        return f"Split {ratio(action['split_coefficient'])} on {action['ex_date']}"
    return f"Dividend {action['dividend_amount']:g} on {action['ex_date']}"


def ratio(coefficient: float) -> str:
    """A split's coefficient as new shares for old ones, such as 4:1 or 3:2."""
    found = Fraction(coefficient).limit_denominator(100)
    return f"{found.numerator}:{found.denominator}" if found else f"{coefficient:g}:1"


def _marks(chart: Chart) -> list[dict[str, Any]]:
    """A mark for each action, at the first session on or after its ex-date."""
    return [
        {
            "x": bisect_left(chart.sessions, action["ex_date"]),
            "kind": action["kind"],
            "text": mark_text(action),
        }
        for action in chart.actions
    ]


def _columns(rows: Any) -> dict[str, list[Any]]:
    return {short: rows[name].to_list() for short, name in _COLUMNS.items()}


def _daily(chart: Chart) -> dict[str, Any]:
    at = {session: index for index, session in enumerate(chart.sessions)}
    return {"x": [at[session] for session in chart.daily["session"]], **_columns(chart.daily)}


def _axis(chart: Chart) -> dict[str, Any]:
    """The axis of one session: `begin` and `end` in minutes since `base`, which is in minutes since midnight."""
    assert chart.bars is not None
    assert chart.hours is not None
    opens, closes = (_minutes(chart, moment) for moment in chart.hours)
    begin = min(opens, _minutes(chart, chart.bars["start_at"][0]))
    end = max(closes, _minutes(chart, chart.bars["end_at"][-1]))
    local = _zero(chart).astimezone(_zone(chart))
    shades = [
        {"text": text, "begin": start, "end": stop}
        for text, start, stop in (("pre", begin, opens), ("post", closes, end))
        if stop > start
    ]
    return {
        "begin": begin,
        "end": end,
        "base": local.hour * 60 + local.minute,
        "shades": shades,
        "previous": chart.daily["prev_close"][0],
    }


def _bars(chart: Chart) -> dict[str, Any]:
    assert chart.bars is not None
    starts, ends = chart.bars["start_at"].to_list(), chart.bars["end_at"].to_list()
    zone = _zone(chart)
    return {
        "x": [_minutes(chart, moment) for moment in starts],
        "width": [(end - start) / _MINUTE for start, end in zip(starts, ends, strict=True)],
        "label": [_clock(moment.astimezone(zone)) for moment in starts],
        **_columns(chart.bars),
    }


def _zone(chart: Chart) -> ZoneInfo:
    return ZoneInfo(chart.source.config.venue.time_zone)


def _zero(chart: Chart) -> datetime:
    """The moment from which minutes are counted."""
    assert chart.hours is not None
    return chart.hours[0].replace(minute=0, second=0, microsecond=0)


def _minutes(chart: Chart, moment: datetime) -> float:
    return (moment - _zero(chart)) / _MINUTE


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if not moment.second else f"{moment:%Y-%m-%d %H:%M:%S}"


def names_of(charts: Sequence[Chart]) -> list[str]:
    """The name of each chart's basis."""
    return [AS_TRADED if chart.basis is None else ADJUSTED for chart in charts]
