"""Orders that another version of the saga began: which of them the present version takes over, and how."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from assets_tests.support.shop_orders import place_of, request, run_to, submit
from lakehouse.domains.orders import control
from lakehouse.domains.orders.control import Takeover, open_desk
from lakehouse.domains.orders.reading import list_orders
from lakehouse.domains.orders.saga import VERSION
from lakehouse.domains.orders.takeover import first_foreign_step
from lakehouse.servers.postgres import Database

OLD = "0"


@pytest.fixture
def old_shop(shop: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A shop with three orders of the old version: one that waits, one that was paid, and one whose way is no more."""
    with monkeypatch.context() as patched:
        patched.setattr(control, "VERSION", OLD)
        submit(shop, request("waits"), request("paid"), request("foreign"))
    with shop.connect() as connection:
        for key in ("paid", "foreign"):
            run_to(connection, key, "paid")
    record(shop, "paid", "acknowledge", "charge", "pay")
    record(shop, "foreign", "acknowledge", "score", "charge")
    yield shop
    with shop.connect() as connection:
        connection.execute("DELETE FROM orders.executors")


def record(shop: Database, workflow: str, *steps: str) -> None:
    """Makes an order one in the middle, of a worker `gone`."""
    with shop.connect() as connection:
        for number, step in enumerate(steps, 1):
            connection.execute(
                "INSERT INTO orders_engine.operation_outputs (workflow_uuid, function_id, function_name) "
                "VALUES (%s, %s, %s)",
                [workflow, number, step],
            )
        connection.execute(
            "UPDATE orders_engine.workflow_status SET status = 'PENDING', executor_id = 'gone' "
            "WHERE workflow_uuid = %s",
            [workflow],
        )


def beat(shop: Database, executor: str, version: str, age_s: float = 0) -> None:
    with shop.connect() as connection:
        connection.execute(
            "INSERT INTO orders.executors (executor_id, application_version, heartbeat_at) "
            "VALUES (%s, %s, now() - make_interval(secs => %s))",
            [executor, version, age_s],
        )


def runs(shop: Database) -> dict[str, tuple[str, str]]:
    with shop.connect() as connection:
        found = connection.execute(
            "SELECT workflow_uuid, application_version, status FROM orders_engine.workflow_status"
        ).fetchall()
    return {workflow: (version, status) for workflow, version, status in found}


def test_orders_of_a_version_without_a_worker_are_taken_over_once(old_shop: Database) -> None:
    beat(old_shop, "gone", OLD, 31)
    beat(old_shop, "new", VERSION)
    with open_desk(place_of(old_shop)) as desk:
        assert desk.recover().takeover == Takeover(("waits",), ("paid~1",), ("foreign",))
        (stuck,) = list_orders(desk, stuck=True)
        assert stuck["order_id"] == "foreign"
        assert stuck["attention"].endswith("or run `lakehouse orders fork foreign --from score`")
        assert desk.recover().takeover == Takeover((), (), ("foreign",))
        expected = {
            "waits": (VERSION, "ENQUEUED"),
            "paid": (OLD, "CANCELLED"),
            "paid~1": (VERSION, "ENQUEUED"),
            "foreign": (OLD, "ENQUEUED"),
        }
        assert runs(old_shop) == expected
        assert list(desk.step_states("paid")) == ["acknowledge", "charge", "pay"], "the fork keeps what was done"
        assert desk.fork("foreign", "score") == "foreign~1"
        assert list(desk.step_states("foreign")) == ["acknowledge"]
        assert list_orders(desk, stuck=True) == []
        assert desk.recover().takeover == Takeover()


def test_a_living_worker_of_the_old_version_keeps_its_orders(old_shop: Database) -> None:
    beat(old_shop, "old", OLD, 29)
    beat(old_shop, "new", VERSION)
    before = runs(old_shop)
    with open_desk(place_of(old_shop)) as desk:
        assert desk.take_over() == Takeover()
    assert runs(old_shop) == before


def test_a_version_without_a_worker_takes_nothing(old_shop: Database) -> None:
    """Two installations without workers would move orders to and fro."""
    before = runs(old_shop)
    with open_desk(place_of(old_shop)) as desk:
        assert desk.take_over() == Takeover()
    assert runs(old_shop) == before


def test_a_crash_between_a_fork_and_the_end_of_its_original(old_shop: Database) -> None:
    beat(old_shop, "new", VERSION)
    with open_desk(place_of(old_shop)) as desk:
        desk._fork("paid", "paid", 4)
        assert desk.take_over() == Takeover(("waits",), (), ("foreign",))
    assert {workflow: state for workflow, state in runs(old_shop).items() if workflow.startswith("paid")} == {
        "paid": (OLD, "CANCELLED"),
        "paid~1": (VERSION, "ENQUEUED"),
    }


@pytest.mark.parametrize(
    ("steps", "foreign"),
    [
        ([], None),
        (["acknowledge", "charge", "void", "need_attention", "void", "pay"], None),
        (["score"], "score"),
        (["acknowledge", "pay"], "pay"),
    ],
)
def test_first_foreign_step(steps: list[str], foreign: str | None) -> None:
    assert first_foreign_step(steps) == foreign
