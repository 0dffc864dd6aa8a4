"""Orders through real workers, an embedded PostgreSQL, and a provider and a carrier in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets_tests.support.soak import soak_count
from lakehouse.domains.orders.simulation import Outcome, Plan, simulate
from lakehouse.servers.postgres import Place

pytestmark = pytest.mark.soak
KILLS = soak_count(1, 30)
ORDERS = soak_count(100, 1000)


def play(home: Path, plan: Plan) -> Outcome:
    return simulate(plan, Place(home / "postgres"), home / "orders", lambda done, total: None)


def assert_counts(outcome: Outcome, orders: int) -> None:
    """The counts of the pattern by i, for hundreds of orders."""
    assert orders % 100 == 0
    each = orders // 20
    counts = {name: count for name, count in outcome.counts.items() if name != "repeated after kills, absorbed"}
    assert counts == {
        "orders": orders,
        "shipped": orders - 2 * each,
        "cancelled": 2 * each,
        "rejected": 0,
        "unfinished": 0,
        "notifications acknowledged": orders,
        "notifications paid": orders - each,
        "notifications booked": orders - each,
        "notifications shipped": orders - 2 * each,
        "notifications cancelled": 2 * each,
        "refunds": each,
        "releases": each,
        "restocks": each,
        "repeated provider calls absorbed": orders // 50,
    }
    assert not any(outcome.broken.values())


@pytest.mark.parametrize("seed", range(1, KILLS + 1))
def test_every_order_ends_once_whatever_is_killed(tmp_path: Path, seed: int) -> None:
    outcome = play(tmp_path, Plan(ORDERS, seed, kill=True))
    assert set(outcome.killed) == {"worker", "provider", "carrier", "database"}
    assert_counts(outcome, ORDERS)
    assert play(tmp_path, Plan(ORDERS, seed)).counts == outcome.counts, "a second play found all orders done"


def test_scarce_stock_is_never_negative(tmp_path: Path) -> None:
    outcome = play(tmp_path, Plan(soak_count(400, 1000), 1, scarce=True))
    assert outcome.counts["rejected"] > 0
    assert (
        outcome.counts["shipped"] + outcome.counts["cancelled"] + outcome.counts["rejected"]
        == (outcome.counts["orders"])
    )
    assert not any(outcome.broken.values())
