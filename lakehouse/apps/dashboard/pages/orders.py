"""The orders: how far they come, how long that takes, refunds, and the state of the checks."""

from __future__ import annotations

from lakehouse.api import Lake
from lakehouse.apps.charts.svg import bars
from lakehouse.apps.dashboard.answer import Answer, Asked
from lakehouse.apps.dashboard.pages.checks import checks_of, counted
from lakehouse.apps.dashboard.reading import mart_row, mart_rows, marts, sums

_BINS = 40


def make(lake: Lake, asked: Asked) -> Answer:
    """The page `/orders`."""
    if "fct_order" not in marts(lake):
        return Answer("orders.html", {"totals": None})
    totals = mart_row(
        lake,
        """
        SELECT count(*) AS orders, count(*) FILTER (cancelled_at IS NOT NULL) AS cancelled,
            count(*) FILTER (delivered_at IS NOT NULL) AS delivered, sum(charged_amount)::DOUBLE AS charged,
            sum(refunded_amount)::DOUBLE AS refunded, min(order_day) AS first, max(order_day) AS last
        FROM marts.fct_order
        """,
    )
    if not totals["orders"]:
        return Answer("orders.html", {"totals": None})
    by_day = mart_rows(lake, "SELECT order_day AS day, count(*) AS orders FROM marts.fct_order GROUP BY ALL ORDER BY 1")
    counts = sums(by_day, lambda each: each["orders"], _BINS)
    funnel = mart_rows(
        lake,
        "SELECT stage, sum(order_count)::BIGINT AS orders FROM marts.order_funnel GROUP BY stage, stage_number "
        "ORDER BY stage_number",
    )
    stages = mart_rows(
        lake,
        "SELECT stage, next_stage, sum(order_count)::BIGINT AS orders, max(median_s) AS median_s, max(p95_s) AS p95_s, "
        "max(longest_s) AS longest_s FROM marts.time_in_stage GROUP BY ALL ORDER BY orders DESC, stage, next_stage",
    )
    refunds = mart_rows(
        lake,
        "SELECT reason, sum(refund_count)::BIGINT AS refunds, sum(refunded_amount)::DOUBLE AS amount "
        "FROM marts.refunds_by_reason GROUP BY reason ORDER BY refunds DESC, reason",
    )
    checks = checks_of(lake, "orders")
    return Answer(
        "orders.html",
        {
            "totals": totals,
            "picture": bars(list(counts), {"orders": list(counts.values())}, "orders by day", 180),
            "funnel": funnel,
            "most": max((each["orders"] for each in funnel), default=1),
            "stages": stages,
            "refunds": refunds,
            "checks": checks,
            "counts": counted(checks),
        },
    )
