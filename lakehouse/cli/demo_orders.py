"""The demo's orders: a few dozen, by the saga with a worker, a payment provider and a carrier, brought to the marts.

A process of their own plays them beside the other scenes, since it mostly waits.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout

from rich.console import Console

from lakehouse.api import Lake
from lakehouse.catalog import database_place, described_source
from lakehouse.child_process import started
from lakehouse.cli.demo_outcomes import RunFailed, answer_of
from lakehouse.derive.captured import CapturedSource
from lakehouse.domains.orders.services import services
from lakehouse.domains.orders.simulation import Plan, simulate
from lakehouse.domains.orders.source import services_folder
from lakehouse.errors import LakehouseError
from lakehouse.local_dagster.backfill import Outcome, run_chain
from lakehouse.local_dagster.display import Display
from lakehouse.settings import settings

SOURCE = "orders"
_ORDERS = 60
Counts = Mapping[str, int]
"""What became of the orders (see `simulation.Outcome`)."""


@contextmanager
def orders_played(seed: int) -> Iterator[Callable[[], Counts]]:
    """Plays orders with declines, refusals and a lost answer in a process that ends with the block. Yields a function
    that waits for their end; it raises `RunFailed` if they could not be played.
    """
    # The check against the provider's statement needs it, too.
    with services(services_folder(settings().home)), started(__name__, str(seed)) as process:

        def counts() -> Counts:
            said = answer_of(process, "the orders")
            if said["error"]:
                raise RunFailed(said["error"])
            found: Counts = said["counts"]
            return found

        yield counts


def _main() -> None:
    counts, error = {}, None
    # The output is the answer's alone.
    with redirect_stdout(sys.stderr):
        config, plan = settings(), Plan(_ORDERS, int(sys.argv[1]), workers=1)
        try:
            counts = simulate(plan, database_place(config), services_folder(config.home), lambda *_: None).counts
        except LakehouseError as failure:
            error = str(failure)
    json.dump({"counts": counts, "error": error}, sys.stdout)


def show_orders(console: Console, display: Display, counts: Counts) -> Outcome:
    """Takes the orders that were played into the lake, and prints what became of them."""
    source = described_source(SOURCE)
    assert isinstance(source, CapturedSource)
    outcome = run_chain(source, source.present, display)
    console.print(
        f"\n[bold]{SOURCE}[/]: of {counts['orders']} orders {counts['shipped']} were shipped and "
        f"{counts['cancelled']} cancelled; how far they came:",
        highlight=False,
    )
    rows = Lake.open().sql(
        "SELECT stage, sum(order_count) FROM marts.order_funnel GROUP BY stage_number, stage ORDER BY stage_number"
    )
    assert rows is not None
    for stage, orders in rows.fetchall():
        console.print(f"  {stage:<14} {orders:>4,} orders", highlight=False)
    return outcome


if __name__ == "__main__":
    _main()
