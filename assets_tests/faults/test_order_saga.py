"""Orders through real workers, an embedded PostgreSQL, and a provider and a carrier in processes of their own."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from assets_tests.support.patience import wait_until
from assets_tests.support.shop_orders import request
from assets_tests.support.soak import soak_count
from lakehouse.domains.orders.control import OrderRefused, initialize, open_desk
from lakehouse.domains.orders.database.requests import request_of
from lakehouse.domains.orders.graph import START, TRANSITIONS
from lakehouse.domains.orders.invariants import broken_invariants
from lakehouse.domains.orders.reading import list_orders, show_order
from lakehouse.domains.orders.simulation import Outcome, Plan, simulate
from lakehouse.domains.orders.worker_process import WorkerProcess
from lakehouse.servers.postgres import Place, database
from lakehouse.sinks import Sink

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


def walked(home: Path) -> set[tuple[str, str]]:
    """The steps that followed each other in the orders' sagas."""
    with database(Place(home / "postgres")) as found, found.connect() as connection:
        rows = connection.execute(
            "SELECT workflow_uuid, function_name FROM orders_engine.operation_outputs WHERE function_name <> "
            "'DBOS.sleep' ORDER BY workflow_uuid, function_id"
        ).fetchall()
        ends = dict(
            connection.execute(
                "SELECT workflow_uuid, CASE order_status WHEN 'Cancelled' THEN 'Cancelled' ELSE 'Shipped' END FROM "
                "orders_engine.workflow_status JOIN orders.orders ON order_id = workflow_uuid WHERE status = 'SUCCESS'"
            ).fetchall()
        )
    paths: dict[str, list[str]] = {}
    for order, step in rows:
        paths.setdefault(order, [START]).append(step)
    return {
        pair for order, path in paths.items() for pair in pairwise([*path, *([ends[order]] if order in ends else [])])
    }


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, KILLS + 1))
def test_every_order_ends_once_whatever_is_killed(tmp_path: Path, seed: int) -> None:
    notices = tmp_path / "notices.jsonl"
    outcome = play(tmp_path, Plan(ORDERS, seed, kill=True, sink=Sink(str(notices))))
    assert set(outcome.killed) == {"worker", "provider", "carrier", "database"}
    assert_counts(outcome, ORDERS)
    sent = [json.loads(line)["key"] for line in notices.read_text().splitlines()]
    count = sum(number for name, number in outcome.counts.items() if name.startswith("notifications "))
    assert len(sent) == len(set(sent)) == count
    ways = walked(tmp_path)
    assert {("ship", "Shipped"), ("release", "cancel"), ("restock", "refund"), ("cancel", "Cancelled")} <= ways
    assert ways <= TRANSITIONS.keys()
    assert play(tmp_path, Plan(ORDERS, seed)).counts == outcome.counts, "a second play found all orders done"


@pytest.mark.soak
def test_scarce_stock_is_never_negative(tmp_path: Path) -> None:
    outcome = play(tmp_path, Plan(soak_count(300, 1000), 1, scarce=True))
    assert outcome.counts["rejected"] > 0
    assert (
        outcome.counts["shipped"] + outcome.counts["cancelled"] + outcome.counts["rejected"]
        == (outcome.counts["orders"])
    )
    assert not any(outcome.broken.values())


def test_a_failed_saga_is_marked_resumed_and_forked(tmp_path: Path) -> None:
    place = Place(tmp_path / "postgres")
    with database(place) as found:
        initialize(place)
        with open_desk(place) as desk, found.connect(autocommit=True) as connection:
            connection.execute("ALTER TABLE orders.payments ADD CONSTRAINT poison CHECK (payment_status <> 'Paid')")
            assert [answer.status for answer in desk.submit([request_of(request("a"))])] == ["submitted"]
            worker = WorkerProcess.start(place, tmp_path / "orders", "one")
            try:
                wait_until(lambda: not desk.unfinished())
                assert desk.mark_failed() == ["a"]
                assert desk.mark_failed() == []
                (stuck,) = list_orders(desk, stuck=True)
                assert "poison" in stuck["attention"]
                connection.execute("ALTER TABLE orders.payments DROP CONSTRAINT poison")
                assert desk.resume("a") == "a~1"
                wait_until(lambda: not desk.unfinished())
                assert show_order(desk, "a")["order_status"] == "Shipped"
                with pytest.raises(OrderRefused, match="has ended"):
                    desk.resume("a")
                with pytest.raises(OrderRefused, match="never came to step 'refund'"):
                    desk.fork("a", "refund")
                assert desk.fork("a", "charge") == "a~2"
                wait_until(lambda: not desk.unfinished())
            finally:
                worker.stop()
            after = show_order(desk, "a")
            assert [each["stage"] for each in after["notifications"]] == ["acknowledged", "paid", "booked", "shipped"]
            assert not any(broken_invariants(connection).values())
