"""The pages of the dashboard, in the order of its navigation."""

from __future__ import annotations

from lakehouse.apps.dashboard.answer import Page
from lakehouse.apps.dashboard.pages import (
    actions,
    bank,
    chart,
    checks,
    coverage,
    feeds,
    freshness,
    instruments,
    movers,
    orders,
    overview,
    quarantine,
    retail,
)

MARKET, QUALITY, DOMAINS = "Market", "Quality", "Domains"
PAGES = (
    Page("/", "Overview", overview.make, ""),
    Page("/movers", "Movers", movers.make, MARKET),
    Page("/instruments", "Instruments", instruments.make, MARKET),
    Page("/chart", "Chart", chart.make),
    Page("/actions", "Splits and dividends", actions.make, MARKET),
    Page("/feeds", "Feeds", feeds.make, MARKET),
    Page("/coverage", "Coverage", coverage.make, QUALITY),
    Page("/freshness", "Freshness", freshness.make, QUALITY),
    Page("/checks", "Checks", checks.make, QUALITY),
    Page("/quarantine", "Quarantine", quarantine.make, QUALITY),
    Page("/retail", "Retail", retail.make, DOMAINS),
    Page("/bank", "Bank", bank.make, DOMAINS),
    Page("/orders", "Orders", orders.make, DOMAINS),
)
