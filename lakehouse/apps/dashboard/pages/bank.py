"""The bank: its customers' balances and entries in total, and the state of its checks. No customer is named."""

from __future__ import annotations

from lakehouse.api import Lake
from lakehouse.apps.charts.svg import bars, line
from lakehouse.apps.dashboard.answer import Answer, Asked
from lakehouse.apps.dashboard.pages.checks import checks_of, counted
from lakehouse.apps.dashboard.reading import bins, mart_row, mart_rows, marts, sums
from lakehouse.lake.sql import literal

_BINS = 40


def make(lake: Lake, asked: Asked) -> Answer:
    """The page `/bank?currency=EUR`."""
    if "fct_balance_daily" not in marts(lake):
        return Answer("bank.html", {"totals": None})
    currencies = [
        each["currency"]
        for each in mart_rows(
            lake, "SELECT currency, count(*) AS n FROM marts.fct_balance_daily GROUP BY ALL ORDER BY n DESC, currency"
        )
    ]
    currency = asked.chosen("currency", currencies, currencies[0] if currencies else None)
    if currency is None:
        return Answer("bank.html", {"totals": None})
    # The bank's own accounts are the other side of each entry: with them every total is zero.
    wanted = f"currency = {literal(currency)} AND customer_key IS NOT NULL"
    totals = mart_row(
        lake,
        f"""
        WITH last AS (
            SELECT account_id, arg_max(balance, day) AS balance FROM marts.fct_balance_daily
            WHERE {wanted} GROUP BY account_id
        )
        SELECT sum(balance)::DOUBLE AS balance, count(*) AS accounts,
            (SELECT count(*) FROM marts.fct_entry WHERE {wanted}) AS entries,
            (SELECT count(*) FROM marts.dim_bank_customer) AS customers,
            (SELECT max(day) FROM marts.fct_balance_daily WHERE {wanted}) AS last
        FROM last
        """,
    )
    # A balance holds until the next day that has one.
    by_day = mart_rows(
        lake,
        f"""
        WITH days AS (
            SELECT unnest(generate_series(min(day), max(day), INTERVAL 1 DAY))::DATE AS day
            FROM marts.fct_entry WHERE {wanted}
        ), moved AS (
            SELECT account_id, day, balance - coalesce(lag(balance) OVER (PARTITION BY account_id ORDER BY day), 0)
                AS moved FROM marts.fct_balance_daily WHERE {wanted}
        )
        SELECT day, sum(coalesce(change, 0)) OVER (ORDER BY day)::DOUBLE AS balance
        FROM days LEFT JOIN (
            SELECT greatest(day, (SELECT min(day) FROM days)) AS day, sum(moved) AS change FROM moved GROUP BY ALL
        ) USING (day) ORDER BY day
        """,
    )
    of_day = bins([each["day"] for each in by_day], 4 * _BINS)
    last_of = {of_day[each["day"]]: each["balance"] for each in by_day}
    entries = mart_rows(
        lake, f"SELECT day, count(*) AS entries FROM marts.fct_entry WHERE {wanted} GROUP BY day ORDER BY day"
    )
    counts = sums(entries, lambda each: each["entries"], _BINS)
    types = mart_rows(
        lake,
        f"""
        SELECT transaction_type, count(*) AS entries, sum(entry_amount) FILTER (entry_amount > 0)::DOUBLE AS credits,
            -sum(entry_amount) FILTER (entry_amount < 0)::DOUBLE AS debits
        FROM marts.fct_entry WHERE {wanted} GROUP BY ALL ORDER BY entries DESC, transaction_type
        """,
    )
    checks = checks_of(lake, "banking")
    return Answer(
        "bank.html",
        {
            "totals": totals,
            "currency": currency,
            "currencies": currencies,
            "balances": line([str(day) for day in last_of], list(last_of.values()), f"balances in {currency}")
            if last_of
            else "",
            "entries": bars(list(counts), {"entries": list(counts.values())}, "entries by day", 180),
            "types": types,
            "checks": checks,
            "counts": counted(checks),
        },
    )
