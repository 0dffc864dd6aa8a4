"""The shop: revenue by day, countries and items, and the state of its checks."""

from __future__ import annotations

from lakehouse.api import Lake
from lakehouse.apps.charts.svg import bars
from lakehouse.apps.dashboard.answer import Answer, Asked
from lakehouse.apps.dashboard.pages.checks import checks_of, counted
from lakehouse.apps.dashboard.reading import mart_row, mart_rows, marts, sums

_BINS = 40


def make(lake: Lake, asked: Asked) -> Answer:
    """The page `/retail`."""
    if "revenue" not in marts(lake):
        return Answer("retail.html", {"totals": None})
    totals = mart_row(
        lake,
        """
        SELECT sum(revenue)::DOUBLE AS revenue, sum(sales)::DOUBLE AS sales, -sum(cancelled)::DOUBLE AS cancelled,
            sum(invoice_count)::BIGINT AS invoices, min(day) AS first, max(day) AS last,
            count(DISTINCT country) AS countries
        FROM marts.revenue
        """,
    )
    if totals["first"] is None:
        return Answer("retail.html", {"totals": None})
    people = mart_row(
        lake,
        "SELECT count(*) AS lines, count(DISTINCT customer_id) AS customers, count(DISTINCT stock_code) AS items "
        "FROM marts.fct_sale_line",
    )
    by_day = mart_rows(
        lake,
        "SELECT day, sum(sales)::DOUBLE AS sales, -sum(cancelled)::DOUBLE AS cancelled FROM marts.revenue "
        "GROUP BY day ORDER BY day",
    )
    revenue = sums(by_day, lambda each: each["sales"] - each["cancelled"], _BINS)
    countries = mart_rows(
        lake,
        "SELECT country, sum(revenue)::DOUBLE AS revenue, sum(invoice_count)::BIGINT AS invoices FROM marts.revenue "
        "GROUP BY country ORDER BY revenue DESC, country LIMIT 8",
    )
    items = mart_rows(
        lake,
        """
        SELECT stock_code, any_value(description) AS description, sum(quantity)::DOUBLE AS quantity,
            sum(amount)::DOUBLE AS amount
        FROM marts.fct_sale_line LEFT JOIN marts.dim_item USING (source, item_key, stock_code)
        WHERE kind = 'sale' GROUP BY stock_code ORDER BY amount DESC, stock_code LIMIT 8
        """,
    )
    checks = checks_of(lake, "retail")
    return Answer(
        "retail.html",
        {
            "totals": {**totals, **people},
            "picture": bars(list(revenue), {"net sales": [max(each, 0) for each in revenue.values()]}, "net sales"),
            "countries": countries,
            "items": items,
            "checks": checks,
            "counts": counted(checks),
        },
    )
