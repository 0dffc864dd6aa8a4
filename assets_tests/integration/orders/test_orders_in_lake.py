"""Orders in the lake: captured, and checks that find what was broken on purpose; and the orders of dead workers."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from assets_tests.support.exchange_lake import code_location
from assets_tests.support.servers.postgres import EmbeddedPostgres, copy_of
from assets_tests.support.shop_orders import empty_shop, make_shop, place_of, request, run_to, submit
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.cli.app import app
from lakehouse.derive.captured import CapturedSource, capture_and_derive
from lakehouse.domains.orders.control import open_desk
from lakehouse.domains.orders.services import services
from lakehouse.domains.orders.source import services_folder
from lakehouse.domains.orders.worker import Housekeeping
from lakehouse.servers.postgres import Database
from lakehouse.settings import settings

BREAKS = {
    "payments.charged_is_shipped": "UPDATE orders.payments SET payment_status = 'Refunded' WHERE order_id = 'a'",
    "inventory.stock_is_conserved": "UPDATE orders.inventory SET quantity = quantity + 1 WHERE product_id = 5",
    "inventory.stock_not_negative": "ALTER TABLE orders.inventory DROP CONSTRAINT stock_is_not_negative; "
    "UPDATE orders.inventory SET quantity = -1 WHERE product_id = 5",
    "orders.ends_in_time": "UPDATE orders.orders SET deadline_at = now() - interval '1 s' WHERE order_id = 'b'",
    "events.follow_the_saga": "DELETE FROM orders.events WHERE order_id = 'a' AND event = 'booked'",
    "order_notifications.one_per_stage": "DELETE FROM orders.order_notifications WHERE stage = 'paid'",
}
ALSO = {
    "payments.charged_is_shipped": {"payments.agrees_with_provider"},
    "inventory.stock_not_negative": {"inventory.stock_is_conserved"},
    "events.follow_the_saga": {"order_notifications.one_per_stage"},
}
"""What else a break breaks."""


def source() -> CapturedSource:
    found = described_source("orders")
    assert isinstance(found, CapturedSource)
    return found


def failing(lake: Lake) -> set[str]:
    return {f"{check.table}.{check.name}" for check in source().checks if not check.run(lake, source(), None).passed}


def rows(lake: Lake, query: str) -> list[tuple[object, ...]]:
    found = lake.sql(query)
    assert found is not None
    return found.fetchall()


def test_capture__and_each_check_finds_what_was_broken(
    embedded_postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    with copy_of(embedded_postgres.server, "orders_shop", make_shop) as shop:
        monkeypatch.setenv("LAKEHOUSE_DATABASE_URL", shop.url)
        submit(shop, request("a"), request("b"), request("c", customer_id=99))
        with shop.connect() as connection:
            run_to(connection, "a", "shipped")
            run_to(connection, "b", "acknowledged")
        captured = CliRunner().invoke(app, ["orders", "capture"])
        assert captured.exit_code == 0, captured.output
        assert captured.output.startswith("Captured ")
        lake = Lake.present()
        assert failing(lake) == set()
        assert rows(lake, "SELECT order_id, order_status FROM orders.orders ORDER BY 1") == [
            ("a", "Shipped"),
            ("b", "Pending"),
        ]
        assert rows(lake, "SELECT product_id, quantity FROM orders.inventory WHERE product_id < 3 ORDER BY 1") == [
            (1, 98),
            (2, 44),
        ]
        assert rows(lake, "SELECT event FROM orders.events WHERE order_id = 'a' ORDER BY seq") == [
            (event,) for event in ("acknowledged", "paid", "booked", "shipped")
        ]
        with services(services_folder(settings().home)) as outside:
            assert failing(lake) == {"payments.agrees_with_provider"}
            charge = {"order_id": "a", "amount": "2000.00", "method": "Credit Card"}
            assert outside.provider.post("/charges", "a:charge", charge).accepted
        assert failing(lake) == set()
        broken: set[str] = set()
        for check, statement in BREAKS.items():
            with shop.connect() as connection:
                connection.execute("SET session_replication_role = replica")
                connection.execute(statement.encode())
            capture_and_derive(lake, source())
            broken |= {check, *ALSO.get(check, ())}
            assert failing(lake) == broken


def test_recover__resumes_orders_of_workers_without_a_heartbeat(shop: Database) -> None:
    empty_shop(shop)
    submit(shop, request("of the dead"), request("of the living"), request("waiting"))
    with shop.connect() as connection:
        connection.execute(
            "INSERT INTO orders.executors (executor_id, application_version, heartbeat_at) VALUES "
            "('dead', '1', now() - interval '31 s'), ('living', '1', now() - interval '29 s')"
        )
        connection.execute(
            "UPDATE orders_engine.workflow_status SET status = 'PENDING', executor_id = "
            "CASE workflow_uuid WHEN 'of the dead' THEN 'dead' ELSE 'living' END WHERE workflow_uuid <> 'waiting'"
        )
    with open_desk(place_of(shop)) as desk:
        found = desk.recover()
        assert (found.executors, found.orders) == (("dead",), ("of the dead",))
        assert desk.recover().executors == ()
        assert desk.unfinished() == 3
    with shop.connect() as connection:
        connection.execute("DELETE FROM orders.executors")
    assert statuses(shop) == {"of the dead": "ENQUEUED", "of the living": "PENDING", "waiting": "ENQUEUED"}


def test_housekeeping__takes_up_orders_of_a_worker_that_died_meanwhile(shop: Database, tmp_path: Path) -> None:
    """Not only at its start, when the other's heartbeat may still be fresh; and without a sensor."""
    empty_shop(shop)
    submit(shop, request("a"))
    with shop.connect() as connection:
        connection.execute("UPDATE orders_engine.workflow_status SET status = 'PENDING', executor_id = 'dead'")
        connection.execute("INSERT INTO orders.executors (executor_id, application_version) VALUES ('dead', '1')")
    with services(tmp_path) as outside, closing(Housekeeping(place_of(shop), outside, "new")) as keeping:
        assert keeping.run()
        assert statuses(shop) == {"a": "PENDING"}
        with shop.connect() as connection:
            connection.execute("UPDATE orders.executors SET heartbeat_at = now() - interval '31 s'")
        assert keeping.run()
    assert statuses(shop) == {"a": "ENQUEUED"}
    with shop.connect() as connection:
        connection.execute("DELETE FROM orders.executors")


def statuses(shop: Database) -> dict[str, str]:
    with shop.connect() as connection:
        return dict(connection.execute("SELECT workflow_uuid, status FROM orders_engine.workflow_status").fetchall())


def test_recovery_sensor__replaces_the_last_worker(
    embedded_postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker is dead, and no other is left: the sensor requests a run, whose worker ends what waits."""
    with copy_of(embedded_postgres.server, "orders_shop", make_shop) as shop:
        monkeypatch.setenv("LAKEHOUSE_DATABASE_URL", shop.url)
        submit(shop, request("a"))
        with shop.connect() as connection:
            connection.execute(
                "INSERT INTO orders.executors (executor_id, application_version, heartbeat_at) "
                "VALUES ('dead', '1', now() - interval '31 s')"
            )
            connection.execute("UPDATE orders_engine.workflow_status SET status = 'PENDING', executor_id = 'dead'")
        repository = code_location().get_repository_def()
        with dg.DagsterInstance.ephemeral() as instance:
            sensor = repository.get_sensor_def("orders_recovery")
            asked = sensor(dg.build_sensor_context(instance=instance))
            assert isinstance(asked, dg.RunRequest)
            assert repository.get_job("orders_work").execute_in_process(instance=instance).success
            again = sensor(dg.build_sensor_context(instance=instance))
            assert isinstance(again, dg.SkipReason)
        with shop.connect() as connection:
            assert connection.execute("SELECT order_status FROM orders.orders").fetchall() == [("Shipped",)]
