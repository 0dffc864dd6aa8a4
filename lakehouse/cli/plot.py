"""Candlestick charts with volume, drawn by matplotlib, as PNG and SVG files; a page is written by `apps.charts.page`.

`chart` reads the data of a chart; figures for Dagster's pages belong in `components.bars.figures`.
"""

from __future__ import annotations

import io
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import date
from math import ceil, floor, log10
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from lakehouse.apps.charts.page import page
from lakehouse.apps.charts.payload import names_of
from lakehouse.domains.market.bars.chart import Chart, price
from lakehouse.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Blue and vermilion of Okabe and Ito's palette: distinguishable with every kind of colour vision, and in grey.
_RISING, _FALLING, _UNCHANGED, _QUIET = "#0072B2", "#D55E00", "#555555", "#666666"
_HOLLOW_FROM = 0.003
"""Rising bodies at least this wide, as a share of the axis (5 pixels), are hollow; all others are filled."""
_LABELS = 13
"""Maximum of session labels on the axis."""
_MARK = 0.02
"""Least distance of two marks of corporate actions, as a share of the axis (24 pixels)."""
_ROOM = 0.07
"""Height for the marks of corporate actions below the prices, as a share of theirs."""
_WIDE = 4
"""A logarithmic axis that spans more than this ratio has its ticks at 1, 2 and 5 of each power of ten."""
_LABEL_POINTS = 13
"""Least distance of a price's label from that of the last close, in points."""


def default_name(instrument: str, first: date, last: date) -> str:
    """The default file name; characters that a file name can't hold become underscores."""
    name = re.sub(r"[^\w.-]", "_", instrument)
    return f"{name}_{first}_{last}.png"


def write(charts: Sequence[Chart], target: Path, *, is_log: bool = False) -> None:
    """Writes charts of the same bars on different bases: all of them as an interactive page if the name ends in .html;
    else the first as a picture, an SVG or a PNG of 1690 x 975 pixels.

    Raises:
        OSError: the file can't be written.
    """
    suffix = target.suffix.lower()
    if suffix == ".html":
        target.write_text(page(dict(zip(names_of(charts), charts, strict=True)), is_log=is_log), encoding="utf-8")
    elif suffix == ".svg":
        target.write_text(_svg(charts[0], is_log), encoding="utf-8")
    else:
        draw(charts[0], is_log=is_log).savefig(target, format="png", dpi=130)


def _svg(chart: Chart, is_log: bool) -> str:
    import matplotlib

    svg = io.StringIO()
    # Keep text as text, so that it can be searched and copied; make ids and metadata reproducible.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lakehouse"}):
        nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        draw(chart, is_log=is_log).savefig(svg, format="svg", metadata=nothing)
    return svg.getvalue()


def draw(chart: Chart, *, is_log: bool = False) -> Figure:
    """The chart as a figure of 13 x 7.5 inches: candles above, volume below. The axis of prices is logarithmic with
    `is_log`, unless a price is zero or negative.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(13, 7.5), facecolor="white")
    grid = figure.add_gridspec(
        2, 1, height_ratios=(4, 1), hspace=0.04, left=0.025, right=0.935, bottom=0.075, top=0.855
    )
    prices = figure.add_subplot(grid[0])
    volumes = figure.add_subplot(grid[1], sharex=prices)
    for axes in (prices, volumes):
        axes.grid(color="#e6e6e6", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.yaxis.tick_right()
        axes.tick_params(length=0, labelsize=9)
        axes.spines[:].set_color("#cccccc")
    prices.tick_params(labelbottom=False)
    volumes.yaxis.set_major_formatter(EngFormatter(sep=""))
    volumes.yaxis.set_label_position("left")
    volumes.set_ylabel("volume", fontsize=8, color=_QUIET)

    along = _sessions_along if chart.bars is None else _times_along
    middles, widths = along(chart, prices, volumes)
    rows = (chart.daily if chart.bars is None else chart.bars).to_dicts()
    left, right = prices.get_xlim()
    hollow = min(widths) / (right - left) >= _HOLLOW_FROM
    if is_log and min(row["low"] for row in rows) > 0:
        prices.set_yscale("log")
    _draw_candles(prices, rows, middles, widths, hollow=hollow)
    if chart.bars is None and chart.actions:
        _make_room_below(prices)
    _label_prices(prices, chart.daily["close"][-1])
    _draw_volumes(volumes, rows, middles, widths)
    _mark_closes(prices, chart)
    if chart.bars is None:
        _mark_actions(prices, chart)
    _explain(prices, rows, hollow=hollow)
    text: dict[str, Any] = {"ha": "left", "va": "top", "parse_math": False}
    figures = "    ".join(f"{name} {value}" for name, value in chart.figures.items())
    figure.text(0.025, 0.98, printable(chart.title), fontsize=14, weight="bold", **text)
    figure.text(0.025, 0.943, figures, fontsize=10.5, **text)
    figure.text(0.025, 0.91, fill(printable(" · ".join(chart.notes)), 160), fontsize=9, color=_QUIET, **text)
    return figure


def _sessions_along(chart: Chart, prices: Axes, volumes: Axes) -> tuple[list[float], list[float]]:
    """Numbers the sessions, so that days without trading take no room, and labels some. Returns the middles of the
    daily bars, and how wide they are.
    """
    sessions = chart.sessions
    at = {session: float(index) for index, session in enumerate(sessions)}
    labelled, form = list(sessions), "%a %d %b" if len(sessions) <= _LABELS else "%d %b"
    if len(sessions) > 10 * _LABELS:
        labelled, form = sorted({session.replace(day=1): session for session in reversed(sessions)}.values()), "%b"
    labelled = labelled[:: ceil(len(labelled) / _LABELS)]
    years = [0, *(session.year for session in labelled)]
    texts = [
        f"{session:{form}}" + (f"\n{session.year}" if session.year != before else "")
        for session, before in zip(labelled, years, strict=False)
    ]
    volumes.set_xticks([at[session] for session in labelled], texts)
    # A few candles alone would be as wide as walls.
    spare = max(0.0, (12 - len(sessions)) / 2)
    prices.set_xlim(-0.7 - spare, len(sessions) - 0.3 + spare)
    middles = [at[session] for session in chart.daily["session"]]
    return middles, [0.7] * len(middles)


def _times_along(chart: Chart, prices: Axes, volumes: Axes) -> tuple[list[float], list[float]]:
    """Lays the session on the exchange's clock, and shades what is before and after its regular segment. Returns the
    middles of the bars, and how wide they are.
    """
    from matplotlib.dates import AutoDateLocator, DateFormatter, date2num

    assert chart.bars is not None
    assert chart.hours is not None
    zone = ZoneInfo(chart.source.config.venue.time_zone)
    starts, ends = date2num(chart.bars["start_at"].to_list()), date2num(chart.bars["end_at"].to_list())
    opens, closes = date2num(chart.hours)
    left, right = min(starts[0], opens), max(ends[-1], closes)
    margin = (right - left) / 150
    prices.set_xlim(left - margin, right + margin)
    volumes.xaxis.set_major_locator(AutoDateLocator(tz=zone, minticks=6, maxticks=14))
    volumes.xaxis.set_major_formatter(DateFormatter("%H:%M", tz=zone))
    for name, begin, end in (("pre", left - margin, opens), ("post", closes, right + margin)):
        if end - begin > margin * 1.01:
            for axes in (prices, volumes):
                axes.axvspan(begin, end, color="#f0f0f3", zorder=0)
            where = prices.get_xaxis_transform()
            prices.text(
                (begin + end) / 2, 0.985, name, transform=where, ha="center", va="top", fontsize=8, color=_QUIET
            )
    # With few trades, a minute's width would hardly be visible.
    lone = min(6.0, max(1.0, (right - left) / (4 * sum(ends - starts))))
    return list((starts + ends) / 2), list((ends - starts) * 0.75 * lone)


def _colour(row: Mapping[str, Any]) -> str:
    if row["close"] == row["open"]:
        return _UNCHANGED
    return _RISING if row["close"] > row["open"] else _FALLING


def _draw_candles(
    axes: Axes, rows: Sequence[Mapping[str, Any]], middles: Sequence[float], widths: Sequence[float], *, hollow: bool
) -> None:
    """Draws candles as two collections: lines from low to high, and bodies from open to close."""
    from matplotlib.collections import LineCollection, PolyCollection

    colours = [_colour(row) for row in rows]
    wicks = [[(x, row["low"]), (x, row["high"])] for x, row in zip(middles, rows, strict=True)]
    bodies = [_box(x, width, row["open"], row["close"]) for x, width, row in zip(middles, widths, rows, strict=True)]
    filled = ["white" if hollow and colour == _RISING else colour for colour in colours]
    line = 1.2 if hollow else 0.7
    # The body of an unchanged bar is just its outline.
    outlines = [1.2 if colour == _UNCHANGED else line for colour in colours]
    axes.add_collection(LineCollection(wicks, colors=colours, linewidths=line, zorder=2))
    axes.add_collection(PolyCollection(bodies, facecolors=filled, edgecolors=colours, linewidths=outlines, zorder=3))
    axes.autoscale_view(scalex=False)


def _draw_volumes(
    axes: Axes, rows: Sequence[Mapping[str, Any]], middles: Sequence[float], widths: Sequence[float]
) -> None:
    from matplotlib.collections import PolyCollection

    heights = [row["volume"] or 0 for row in rows]
    bars = [_box(x, width, 0, height) for x, width, height in zip(middles, widths, heights, strict=True)]
    axes.add_collection(PolyCollection(bars, facecolors=[_colour(row) for row in rows], linewidths=0))
    axes.set_ylim(0, 1.08 * max(*heights, 1))


def _box(middle: float, width: float, low: float, high: float) -> list[tuple[float, float]]:
    left, right = middle - width / 2, middle + width / 2
    return [(left, low), (left, high), (right, high), (right, low)]


def _mark_closes(axes: Axes, chart: Chart) -> None:
    """Marks the last close on the price axis and, for a single session, the previous close as a line."""
    first, last = chart.daily.row(0, named=True), chart.daily.row(-1, named=True)
    before = first["prev_close"] if chart.bars is not None else None
    low, high = axes.get_ylim()
    # Far away (a split) it would flatten the candles.
    if before is not None and low - (high - low) < before < high + (high - low):
        axes.axhline(before, color=_UNCHANGED, linewidth=0.9, linestyle=(0, (5, 4)), zorder=1, label="previous close")
    where: dict[str, Any] = {"xy": (1, last["close"]), "xycoords": ("axes fraction", "data"), "va": "center"}
    box = {"boxstyle": "square,pad=0.25", "facecolor": "#333333", "edgecolor": "none"}
    axes.annotate(
        price(last["close"]), **where, xytext=(4, 0), textcoords="offset points", fontsize=9, color="white", bbox=box
    )


def _make_room_below(axes: Axes) -> None:
    """Extends the axis of prices downwards, for the marks of corporate actions."""
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        axes.set_ylim(low / (high / low) ** _ROOM, high)
    else:
        axes.set_ylim(low - (high - low) * _ROOM, high)


def _label_prices(axes: Axes, close: float) -> None:
    """Ticks at round prices, without those that the label of the last close would cover."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        powers = range(floor(log10(low)), ceil(log10(high)) + 1)
        wide = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        ticks = wide if high / low > _WIDE else MaxNLocator(8).tick_values(low, high)
        axes.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
        axes.yaxis.set_minor_locator(NullLocator())

    def text(value: float, _: object) -> str:
        points = axes.transData.transform([(0, value), (0, close)])[:, 1] * 72 / axes.figure.dpi
        return "" if abs(points[0] - points[1]) < _LABEL_POINTS else price(value)

    axes.yaxis.set_major_formatter(FuncFormatter(text))


def _mark_actions(axes: Axes, chart: Chart) -> None:
    """Marks the first session on or after each ex-date with a line and a letter: D for a dividend, S for a split. Marks
    that would overlap become one: of a split if there is one, else with their number.
    """
    where = axes.get_xaxis_transform()
    letters: dict[int, str] = {}
    for action in chart.actions:
        at = bisect_left(chart.sessions, action["ex_date"])
        letters[at] = letters.get(at, "") + action["kind"][0].upper()
    left, right = axes.get_xlim()
    for group in grouped(sorted(letters), _MARK * (right - left)):
        of_group = "".join(letters[at] for at in group)
        text = of_group if len(group) == 1 else "S" if "S" in of_group else str(len(of_group))
        for at in group if len(group) == 1 else [at for at in group if "S" in letters[at]]:
            axes.axvline(at, color=_QUIET, linewidth=0.8, linestyle=":", zorder=1)
        box = {"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": _QUIET, "linewidth": 0.8}
        middle = (group[0] + group[-1]) / 2
        axes.text(middle, 0.03, text, transform=where, ha="center", fontsize=8, color=_QUIET, bbox=box)


def grouped(places: Sequence[int], least: float) -> list[list[int]]:
    """Ascending places in groups whose middles are at least `least` apart."""
    groups: list[list[int]] = []
    for place in places:
        group = [place]
        while groups and (group[0] + group[-1]) / 2 - (groups[-1][0] + groups[-1][-1]) / 2 < least:
            group = groups.pop() + group
        groups.append(group)
    return groups


def _explain(axes: Axes, rows: Sequence[Mapping[str, Any]], *, hollow: bool) -> None:
    """Draws the legend above the candles, with the entries that occur."""
    from matplotlib.patches import Patch

    there = {_colour(row) for row in rows}
    names = {_RISING: "close above open", _FALLING: "close below open", _UNCHANGED: "unchanged"}
    handles: list[Any] = [
        Patch(facecolor="white" if hollow and colour == _RISING else colour, edgecolor=colour, label=name)
        for colour, name in names.items()
        if colour in there
    ]
    handles += axes.get_legend_handles_labels()[0]
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1.005, 0.995), ncols=4, fontsize=8, frameon=False)
