"""Figures for the asset pages. A feed's day is drawn by matplotlib, which is imported only when there is something to
draw.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from lakehouse.components.bars.deviations_svg import deviations_svg
from lakehouse.components.bars.session_svg import session_svg
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.domains.market.quotes.feed import WINDOWS, Feed
from lakehouse.domains.market.reconciliation.views import compared_of
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import literal
from lakehouse.pictures import in_markdown

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

_CLIP_PCT = 10.0
"""Changes beyond this go into the outermost bin, so that one split doesn't flatten the histogram."""
_BINS = 41
_CLIP_BP, _BINS_BP = 60.0, 81
_CLIP_RATIO, _BINS_RATIO = 1.5, 60
_PRICES = ("open", "high", "low", "close")
_MOVERS = 10
"""Number of symbols named in a feed's figure: half with the highest gains, half with the lowest."""
_MOST_OTHERS = 300
_GREY = "#c8ccd8"
_POINTS = 480
"""Points per line: one every three minutes for a whole day."""


def session_pictures(lake: Lake, source: BarSource, sessions: Sequence[date]) -> dict[str, Any]:
    """For the last of `sessions` with daily bars: the distribution of change_pct, and the bars and instruments per
    hour.
    """
    daily = lake.table(source.table("daily_bars")).snapshot().select_dates(sessions)
    with lake.connect() as connection:
        found = connection.execute(f"SELECT max(session) FROM ({daily})").fetchone()
        session = found[0] if found else None
        if session is None:
            return {}
        binned = connection.execute(
            f"""
            SELECT {_bin("change_pct", -_CLIP_PCT, _CLIP_PCT, _BINS)} AS bin, count(*)
            FROM ({daily}) WHERE session = {literal(session)} AND change_pct IS NOT NULL GROUP BY bin
            """
        ).fetchall()
        bars = lake.table(source.table("bars")).snapshot().select_dates([session])
        hours = connection.execute(
            f"""
            SELECT hour(start_at AT TIME ZONE {literal(source.config.venue.time_zone)}) AS hour, count(*),
                count(DISTINCT instrument_id)
            FROM ({bars}) WHERE is_traded GROUP BY hour ORDER BY hour
            """
        ).fetchall()
    counts = dict(binned)
    changes = [counts.get(number, 0) for number in range(_BINS)]
    picture = session_svg(session, changes, _CLIP_PCT, hours, source.config.venue.time_zone)
    description = f"distribution of change_pct and coverage per hour of {session}"
    return {"session_in_pictures": dg.MetadataValue.md(in_markdown(picture, description))}


def deviation_pictures(lake: Lake, source: BarSource) -> dict[str, Any]:
    """How a reconciled source's daily bars deviate from the other series over all compared sessions: price deviations
    and volume ratios.
    """
    bins = {field: _bin(f"{field}_bp", -_CLIP_BP, _CLIP_BP, _BINS_BP) for field in _PRICES}
    bins["ratio"] = _bin("ratio", 0, _CLIP_RATIO, _BINS_RATIO)
    binned = ", ".join(f"histogram({of}) AS {name}" for name, of in bins.items())
    with lake.connect() as connection:
        compared = compared_of(lake, connection, source)
        row = connection.execute(f"SELECT count(*), {binned} FROM ({compared})").fetchone()
    assert row is not None
    sessions, *counts = row
    if not sessions:
        return {}
    *prices, ratios = [found or {} for found in counts]
    picture = deviations_svg(
        sessions,
        {field: [of.get(number, 0) for number in range(_BINS_BP)] for field, of in zip(_PRICES, prices, strict=True)},
        _CLIP_BP,
        [ratios.get(number, 0) for number in range(_BINS_RATIO)],
        _CLIP_RATIO,
    )
    return {"deviations": dg.MetadataValue.md(in_markdown(picture, "distribution of deviations and volume ratios"))}


def _bin(value: str, least: float, most: float, bins: int) -> str:
    """SQL for the number of the bin that holds a value, of equal bins from `least` to `most`; the outermost ones hold
    what is beyond them.
    """
    place = f"floor(({value} - {least}) / {most - least} * {bins})"
    return f"least(greatest({place}, 0), {bins - 1})::INTEGER"


def gains_picture(lake: Lake, feed: Feed, day: date) -> dict[str, Any]:
    """Each symbol's gain over a day (UTC), relative to the first price of the day's shortest windows."""
    stored = lake.table(feed.table(WINDOWS)).snapshot().select({"day": [day]})
    windows = f"(SELECT * FROM ({stored}) WHERE resolution_minutes = {min(feed.config.windows.resolutions_minutes)})"
    with lake.connect() as connection:
        # Downsample: keep the last point of each stretch of a line.
        connection.execute(
            f"""
            CREATE TEMP TABLE points AS
            WITH span AS MATERIALIZED (SELECT min(window_end) AS first, max(window_end) AS last FROM {windows}),
            stretches AS (
                SELECT symbol, max(window_end) AS ended, arg_max(last_price, window_end) AS price,
                    arg_min(first_price, window_end) AS opening
                FROM {windows} CROSS JOIN span
                GROUP BY symbol, floor({_POINTS} * epoch(window_end - first) / greatest(epoch(last - first), 1))
            ),
            opened AS (SELECT symbol, arg_min(opening, ended) AS opening FROM stretches GROUP BY symbol)
            SELECT symbol, ended, 100 * (price - opened.opening) / opened.opening AS gain
            FROM stretches JOIN opened USING (symbol) WHERE opened.opening > 0
            """
        )
        by_gain = [
            symbol
            for (symbol,) in connection.execute(
                "SELECT symbol FROM points GROUP BY symbol ORDER BY arg_max(gain, ended) DESC, symbol"
            ).fetchall()
        ]
        movers = by_gain if len(by_gain) <= _MOVERS else by_gain[: _MOVERS // 2] + by_gain[-_MOVERS // 2 :]
        others = by_gain[_MOVERS // 2 : -_MOVERS // 2] if len(by_gain) > _MOVERS else []
        # Too many symbols to tell apart: draw a sample across all gains.
        shown = others[:: -(-len(others) // _MOST_OTHERS)] if others else []
        wanted = ", ".join(map(literal, [*movers, *shown]))
        if not wanted:
            return {}
        points = connection.sql(
            "SELECT symbol, ended AT TIME ZONE 'UTC' AS ended, gain "
            f"FROM points WHERE symbol IN ({wanted}) ORDER BY symbol, ended"
        ).pl()
    lines = {str(symbol): line for (symbol,), line in points.group_by("symbol", maintain_order=True)}
    title = f"{feed.name} {day}: gains of {len(by_gain):,} symbols"
    if others:
        title += f", the {_MOVERS // 2} highest and the {_MOVERS // 2} lowest named"
    picture = _lines_drawn(title, day, lines, movers, len(others))
    return {"gains_of_the_day": dg.MetadataValue.md(picture)}


def _lines_drawn(title: str, day: date, lines: Mapping[str, pl.DataFrame], movers: Sequence[str], others: int) -> str:
    """The movers in colour, what else is in `lines` (some of the `others`) in grey; (ended, gain) ascending."""
    from matplotlib.dates import AutoDateLocator, DateFormatter
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color="black", linewidth=0.6)
    grey = lines.keys() - set(movers)
    for symbol in grey:
        axes.plot(lines[symbol]["ended"], lines[symbol]["gain"], color=_GREY, linewidth=0.5)
    for number, symbol in enumerate(movers):
        line = lines[symbol]
        # matplotlib would read a $ as the start of a formula.
        label = f"{symbol} {line['gain'][-1]:+.2f}%".replace("$", r"\$")
        axes.plot(line["ended"], line["gain"], color=f"C{number % 10}", linewidth=1.2, label=label)
    if grey:
        axes.plot([], [], color=_GREY, label=f"{len(grey):,} of {others:,} others" if len(grey) < others else "others")
    axes.set(title=title, xlabel=f"time on {day} (UTC)", ylabel="gain since the day's first price (percent)")
    axes.xaxis.set_major_locator(AutoDateLocator(maxticks=10))
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))
    axes.margins(x=0.01)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small", frameon=False)
    return image_markdown(figure, title)


def image_markdown(figure: Figure, description: str) -> str:
    """Embeds the figure in Markdown as a PNG data URI."""
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=90)
    return in_markdown(target.getvalue(), description)
