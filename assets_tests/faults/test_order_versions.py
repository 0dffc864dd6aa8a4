"""Two versions of the saga side by side: orders in flight survive a change of the code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from assets_tests.support.patience import wait_until
from lakehouse.domains.orders import control
from lakehouse.domains.orders.control import Desk, initialize, open_desk
from lakehouse.domains.orders.database.requests import request_of
from lakehouse.domains.orders.invariants import broken_invariants, disagreements
from lakehouse.domains.orders.saga import VERSION
from lakehouse.domains.orders.services import services
from lakehouse.domains.orders.simulation import Plan, request_number
from lakehouse.domains.orders.worker_process import WorkerProcess
from lakehouse.servers.postgres import Place, database
from lakehouse.sinks import Sink

OLD = "0"
OLD_WORKER = f"""
from lakehouse.domains.orders import saga
saga.VERSION = {OLD!r}
from lakehouse.domains.orders.worker_process import main
main()
"""
PLAN = Plan(40, 1)


def test_orders_of_a_killed_old_worker_end_by_the_new_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with shop(tmp_path) as (place, desk, connection):
        submit_as_old(desk, monkeypatch, PLAN)
        old = start_old(place, tmp_path)
        try:
            wait_until(lambda: desk.unfinished() <= 35)
        finally:
            old.kill()
        begun = "SELECT count(DISTINCT workflow_uuid) FROM orders_engine.workflow_status JOIN "
        begun += "orders_engine.operation_outputs USING (workflow_uuid) WHERE status = 'PENDING'"
        queued = "SELECT count(*) FROM orders_engine.workflow_status WHERE status = 'ENQUEUED'"
        assert number(connection, begun) > 0
        assert number(connection, queued) > 0
        connection.execute("UPDATE orders.executors SET heartbeat_at = now() - interval '31 s'")
        new = WorkerProcess.start(place, tmp_path / "orders", "new", Sink(str(tmp_path / "notices.jsonl")))
        try:
            wait_until(lambda: not desk.unfinished())
        finally:
            new.stop()
        assert_each_ended_once(tmp_path, connection, PLAN)
        by_version = dict(
            connection.execute(
                "SELECT application_version, count(*) FROM orders_engine.workflow_status "
                "WHERE status = 'SUCCESS' GROUP BY 1"
            ).fetchall()
        )
        assert set(by_version) == {OLD, VERSION}
        assert sum(by_version.values()) == PLAN.orders


def test_a_living_old_worker_drains_its_own_orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = Plan(10, 2)
    with shop(tmp_path) as (place, desk, connection):
        submit_as_old(desk, monkeypatch, PLAN)
        old = start_old(place, tmp_path)
        try:
            wait_until(lambda: desk.live_workers() == ["old"])
            new = WorkerProcess.start(place, tmp_path / "orders", "new", Sink(str(tmp_path / "notices.jsonl")))
            try:
                submit(desk, later)
                wait_until(lambda: desk.recover().takeover == control.Takeover() and not desk.unfinished())
            finally:
                new.stop()
        finally:
            old.stop()
        assert_each_ended_once(tmp_path, connection, PLAN, later)
        ran = connection.execute(
            "SELECT application_version, executor_id, count(*)::int FROM orders_engine.workflow_status GROUP BY 1, 2"
        ).fetchall()
        assert sorted(ran) == [(OLD, "old", PLAN.orders), (VERSION, "new", later.orders)]


@contextmanager
def shop(folder: Path) -> Iterator[tuple[Place, Desk, psycopg.Connection]]:
    """A shop with stock that suffices, and its services."""
    place = Place(folder / "postgres")
    with database(place) as found, services(folder / "orders"):
        initialize(place)
        with open_desk(place) as desk, found.connect(autocommit=True) as connection:
            yield place, desk, connection


def submit(desk: Desk, plan: Plan) -> None:
    requests = [request_of(request_number(plan, i)) for i in range(1, plan.orders + 1)]
    assert {answer.status for answer in desk.submit(requests)} == {"submitted"}


def submit_as_old(desk: Desk, monkeypatch: pytest.MonkeyPatch, plan: Plan) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(control, "VERSION", OLD)
        submit(desk, plan)


def start_old(place: Place, folder: Path) -> WorkerProcess:
    line = {
        "postgres": str(place.folder),
        "url": place.url,
        "folder": str(folder / "orders"),
        "executor": "old",
        "notices": str(folder / "notices.jsonl"),
    }
    with (folder / "old.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-c", OLD_WORKER], stdin=subprocess.PIPE, stdout=log, stderr=log)
    assert process.stdin is not None
    process.stdin.write(f"{json.dumps(line)}\n".encode())
    process.stdin.flush()
    return WorkerProcess("old", process)


def assert_each_ended_once(folder: Path, connection: psycopg.Connection, *plans: Plan) -> None:
    """None is lost, doubled or stuck; money and stock are conserved; each notice is there once and left once."""
    orders = sum(plan.orders for plan in plans)
    expected = {"Cancelled": sum(i % 20 in (3, 7) for plan in plans for i in range(1, plan.orders + 1))}
    expected["Shipped"] = orders - expected["Cancelled"]
    ended = connection.execute("SELECT order_status, count(*) FROM orders.orders GROUP BY 1").fetchall()
    assert dict(ended) == expected
    assert number(connection, "SELECT count(*) FROM orders.orders WHERE attention IS NOT NULL") == 0
    with services(folder / "orders") as outside:
        charges, deliveries = outside.provider.statement(), outside.carrier.statement()
    broken = {**broken_invariants(connection), **disagreements(connection, charges, deliveries)}
    assert not any(broken.values()), broken
    notices = connection.execute("SELECT order_id || ':' || stage FROM orders.order_notifications").fetchall()
    sent = [json.loads(line)["key"] for line in (folder / "notices.jsonl").read_text().splitlines()]
    assert sorted(sent) == sorted(key for (key,) in notices)


def number(connection: psycopg.Connection, query: str) -> int:
    (found,) = connection.execute(query.encode()).fetchone() or (0,)
    return int(found)
