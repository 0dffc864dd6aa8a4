"""The demo's orders: a few dozen, by the saga with a worker, a payment provider and a carrier, brought to the marts."""

from __future__ import annotations

from rich.console import Console

from lakehouse.api import Lake
from lakehouse.catalog import database_place, described_source
from lakehouse.derive.captured import CapturedSource
from lakehouse.domains.orders.services import services
from lakehouse.domains.orders.simulation import Plan, simulate
from lakehouse.domains.orders.source import services_folder
from lakehouse.local_dagster.backfill import Outcome, run_chain
from lakehouse.local_dagster.display import Display
from lakehouse.settings import settings

SOURCE = "orders"
_ORDERS = 60


def play_orders(console: Console, display: Display, seed: int) -> Outcome:
    """Plays orders with declines, refusals and a lost answer, takes them into the lake, and prints what became of
    them.
    """
    config = settings()
    source = described_source(SOURCE)
    assert isinstance(source, CapturedSource)
    # The check against the provider's statement needs it, too.
    with services(services_folder(config.home)):
        played = simulate(
            Plan(_ORDERS, seed, workers=1),
            database_place(config),
            services_folder(config.home),
            lambda done, total: display.show("orders", done, total),
        )
        outcome = run_chain(source, source.present, display)
    console.print(
        f"\n[bold]{SOURCE}[/]: of {played.counts['orders']} orders {played.counts['shipped']} were shipped and "
        f"{played.counts['cancelled']} cancelled; how far they came:",
        highlight=False,
    )
    rows = Lake.open().sql(
        "SELECT stage, sum(order_count) FROM marts.order_funnel GROUP BY stage_number, stage ORDER BY stage_number"
    )
    assert rows is not None
    for stage, orders in rows.fetchall():
        console.print(f"  {stage:<14} {orders:>4,} orders", highlight=False)
    return outcome
