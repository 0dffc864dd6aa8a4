"""Pictures for the orders' asset pages: the saga as a graph, and the time that its steps take."""

from __future__ import annotations

import base64
from typing import Any

import dagster as dg

from lakehouse.analyses.graph import as_svg
from lakehouse.components.bars.figures import image_markdown
from lakehouse.derive.captured import CapturedSource
from lakehouse.domains.orders.graph import saga_graph
from lakehouse.lake.lake import Lake

_EVENTS = 20_000
"""The newest events, of some 5,000 orders, of which the times are shown."""


def saga_picture(lake: Lake, source: CapturedSource) -> dict[str, Any]:
    """The saga as a graph."""
    drawing = base64.b64encode(as_svg(saga_graph()).encode()).decode()
    return {"saga": dg.MetadataValue.md(f"![the saga of an order](data:image/svg+xml;base64,{drawing})")}


def steps_picture(lake: Lake, source: CapturedSource) -> dict[str, Any]:
    """How long the newest orders took from each event to the next."""
    events = lake.table(source.table("events")).snapshot().select()
    with lake.connect() as connection:
        rows = connection.execute(
            f"""
            SELECT event || ' → ' || next, count(*), list(seconds) FROM (
                SELECT event, lead(event) OVER following AS next,
                    (epoch_us(lead(occurred_at) OVER following) - epoch_us(occurred_at)) / 1e6 AS seconds
                FROM (SELECT * FROM ({events}) ORDER BY seq DESC LIMIT {_EVENTS})
                WINDOW following AS (PARTITION BY order_id ORDER BY seq)
            ) WHERE next IS NOT NULL GROUP BY ALL ORDER BY count(*) DESC, 1
            """
        ).fetchall()
    if not rows:
        return {}
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(9, 1.2 + 0.32 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.boxplot(
        [seconds for _, _, seconds in rows],
        orientation="horizontal",
        whis=(5, 95),
        showfliers=False,
        tick_labels=[f"{name} ({count:,})" for name, count, _ in rows],
    )
    axes.invert_yaxis()
    axes.set(
        title=f"{source.name}: time per step of the newest orders",
        xlabel="seconds (box: the middle half; whiskers: 5 to 95 %)",
        xscale="log",
    )
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", alpha=0.3)
    return {"time_per_step": dg.MetadataValue.md(image_markdown(figure, "time per step"))}
