"""Pictures for the orders' asset pages: the saga as a graph, and the time that its steps take."""

from __future__ import annotations

from typing import Any

import dagster as dg

from lakehouse.analyses.graph import as_svg
from lakehouse.components.steps_svg import PERCENT, steps_svg
from lakehouse.derive.captured import CapturedSource
from lakehouse.domains.orders.graph import saga_graph
from lakehouse.lake.lake import Lake
from lakehouse.pictures import in_markdown

_EVENTS = 20_000
"""The newest events, of some 5,000 orders, of which the times are shown."""


def saga_picture(lake: Lake, source: CapturedSource) -> dict[str, Any]:
    """The saga as a graph."""
    return {"saga": dg.MetadataValue.md(in_markdown(as_svg(saga_graph()), "the saga of an order"))}


def steps_picture(lake: Lake, source: CapturedSource) -> dict[str, Any]:
    """How long the newest orders took from each event to the next."""
    events = lake.table(source.table("events")).snapshot().select()
    shares = [percent / 100 for percent in PERCENT]
    with lake.connect() as connection:
        rows = connection.execute(
            f"""
            SELECT event || ' → ' || next, count(*), quantile_cont(seconds, {shares}) FROM (
                SELECT event, lead(event) OVER following AS next,
                    (epoch_us(lead(occurred_at) OVER following) - epoch_us(occurred_at)) / 1e6 AS seconds
                FROM (SELECT * FROM ({events}) ORDER BY seq DESC LIMIT {_EVENTS})
                WINDOW following AS (PARTITION BY order_id ORDER BY seq)
            ) WHERE next IS NOT NULL GROUP BY ALL ORDER BY count(*) DESC, 1
            """
        ).fetchall()
    if not rows:
        return {}
    picture = steps_svg(f"{source.name}: time per step of the newest orders", rows)
    return {"time_per_step": dg.MetadataValue.md(in_markdown(picture, "time per step"))}
