"""Draws charts by matplotlib, as PNG or SVG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.analyses.values import Chart
from lakehouse.printable import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Okabe and Ito's palette, which is distinguishable with every kind of colour vision."""


def draw(chart: Chart, subtitle: str = "") -> Figure:
    """The chart as a figure: a panel for each number of the lines' panels, over the same dates."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    panels = sorted({line.panel for line in chart.lines})
    figure = Figure(figsize=(11, 5.5 if len(panels) < 2 else 6.5), facecolor="white", layout="constrained")
    axes = figure.subplots(
        len(panels), 1, sharex=True, squeeze=False, height_ratios=[4, *[1] * (len(panels) - 1)]
    )[:, 0]  # fmt: skip
    for place, panel in enumerate(panels):
        shown = axes[place]
        for number, line in enumerate(chart.lines):
            if line.panel == panel:
                points = line.points.drop_nulls("value")
                few = points["value"].n_unique() <= 3
                shown.plot(
                    points["date"].to_list(),
                    points["value"].to_list(),
                    color=_COLOURS[number % len(_COLOURS)],
                    linewidth=1.2 if number else 1.0,
                    drawstyle="steps-post" if few else "default",
                    label=printable(line.label),
                )
        shown.grid(color="#e6e6e6", linewidth=0.7)
        shown.set_axisbelow(True)
        shown.spines[["top", "right"]].set_visible(False)
        shown.spines[["left", "bottom"]].set_color("#cccccc")
        shown.tick_params(length=0, labelsize=9)
        shown.margins(x=0.01)
        shown.legend(loc="upper left", fontsize=9, frameon=False, ncols=4)
        locator = AutoDateLocator()
        shown.xaxis.set_major_locator(locator)
        shown.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    title = f"{chart.title}: {subtitle}" if subtitle else chart.title
    figure.suptitle(printable(title), fontsize=13, weight="bold", x=0.02, ha="left", parse_math=False)
    return figure


def png(chart: Chart, subtitle: str = "", dpi: int = 100) -> bytes:
    """The chart as a PNG picture."""
    written = io.BytesIO()
    draw(chart, subtitle).savefig(written, format="png", dpi=dpi)
    return written.getvalue()


def write(chart: Chart, target: Path, subtitle: str = "") -> None:
    """Writes the chart: as SVG if the name ends in .svg, else as PNG."""
    if target.suffix.lower() != ".svg":
        target.write_bytes(png(chart, subtitle, dpi=130))
        return
    import matplotlib

    written = io.StringIO()
    # Keep text as text; make ids and metadata reproducible.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lakehouse"}):
        nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        draw(chart, subtitle).savefig(written, format="svg", metadata=nothing)
    target.write_text(written.getvalue(), encoding="utf-8")
