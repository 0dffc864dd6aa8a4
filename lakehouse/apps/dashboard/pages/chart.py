"""Candlesticks with volume of an instrument, with its splits and dividends, as traded or adjusted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from zoneinfo import ZoneInfo

from lakehouse.api import Lake
from lakehouse.apps.charts.payload import AS_TRADED, as_script, names_of, payload
from lakehouse.apps.dashboard.answer import Answer, Asked, UnknownValue
from lakehouse.catalog import sources_of
from lakehouse.domains.market.bars.chart import Chart, read_bases, read_chart
from lakehouse.domains.market.bars.source import BarSource

_FIRST, _LAST = date(1900, 1, 1), date(2199, 12, 31)
_SHOWN = 252
"""Sessions that a long chart shows at first: a year."""
_ROWS = 25


def make(lake: Lake, asked: Asked) -> Answer:
    """The page `/chart?instrument=BMW&source=xetra&currency=EUR`; with `session`, that session's bars.

    Raises:
        UnknownValue: it asks for no instrument, or for a source that isn't there.
        ChartError: there is nothing of that name, or several series.
    """
    instrument = asked.text("instrument")
    if instrument is None:
        raise UnknownValue("no instrument is asked for", "Choose one on the page Instruments")
    loaded = lake.sources("market")
    sources = [each for each in sources_of("market") if each.name in loaded and each.has_bars]
    source = asked.chosen("source", [each.name for each in sources])
    wanted = [each for each in sources if source in (None, each.name)]
    session = asked.day("session")
    first, last = _span(wanted) if session is None else (session, session)
    chart = read_chart(lake, wanted, instrument, first, last, asked.text("currency"))
    charts = read_bases(lake, chart)
    views = dict(zip(names_of(charts), charts, strict=True))
    return Answer("chart.html", _values(views, session))


def _span(sources: Sequence[BarSource]) -> tuple[date, date]:
    """All sessions of the calendars."""
    if not sources:
        return _FIRST, _LAST
    frames = [source.calendar.frame["session"] for source in sources]
    return min(each[0] for each in frames), max(each[-1] for each in frames)


def _values(views: dict[str, Chart], session: date | None) -> dict[str, object]:
    chart = views.get(AS_TRADED) or next(iter(views.values()))
    last = chart.daily.row(-1, named=True)
    rows = (chart.daily if chart.bars is None else chart.bars).reverse().head(_ROWS).to_dicts()
    zone = ZoneInfo(chart.source.config.venue.time_zone)
    if chart.bars is not None:
        rows = [{**row, "clock": f"{row['start_at'].astimezone(zone):%H:%M:%S}"} for row in rows]
    return {
        "chart": chart,
        "last": last,
        "data": as_script(payload(views, shown=_SHOWN if len(chart.sessions) > 2 * _SHOWN else None)),
        "rows": rows,
        "session": session,
        "sessions": chart.daily["session"].to_list()[-1:],
        "zone": zone.key,
    }
