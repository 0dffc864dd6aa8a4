"""What each service does in the database, the guards of its transitions, and the invariants that watch over both."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from assets_tests.support.shop_orders import place_of, request, run_to, stock, submit
from lakehouse import orders
from lakehouse.domains.orders.control import OrderRefused, open_desk
from lakehouse.domains.orders.database import steps
from lakehouse.domains.orders.invariants import (
    CARRIER_AGREES,
    INVARIANTS,
    PROVIDER_AGREES,
    broken_invariants,
    disagreements,
)
from lakehouse.domains.orders.reading import list_orders, show_order
from lakehouse.servers.postgres import Database


def notifications(connection: psycopg.Connection, key: str) -> list[str]:
    found = connection.execute(
        "SELECT stage FROM orders.order_notifications WHERE order_id = %s ORDER BY notification_id", [key]
    )
    return [stage for (stage,) in found]


def test_the_original_order_goes_through(shop: Database) -> None:
    assert submit(shop, request("a")) == ["submitted"]
    with shop.connect() as connection:
        run_to(connection, "a", "shipped")
        assert {product: stock(connection)[product] for product in (1, 2)} == {1: 99, 2: 47}
        assert notifications(connection, "a") == ["acknowledged", "paid", "booked", "shipped"]
        assert not any(broken_invariants(connection).values())
    with open_desk(place_of(shop)) as desk:
        found = show_order(desk, "a")
    assert (found["order_status"], found["payment_status"], found["delivery_status"]) == (
        "Shipped",
        "Paid",
        "Scheduled",
    )


def test_every_step_is_idempotent(shop: Database) -> None:
    submit(shop, request("a"))
    with shop.connect() as connection:
        for _ in range(2):
            run_to(connection, "a", "shipped")
        assert stock(connection)[2] == 47
        assert notifications(connection, "a") == ["acknowledged", "paid", "booked", "shipped"]


def test_submit__the_same_key_again(shop: Database) -> None:
    assert submit(shop, request("a"), request("a"), request("a", payment_amount="2000.00")) == [
        "submitted",
        "replayed",
        "replayed",
    ]
    assert submit(shop, request("a", payment_amount=1)) == ["refused"]


MALFORMED: list[dict[str, Any]] = [
    {"customer_id": 0},
    {"products": {}},
    {"products": {"1": 0}},
    {"products": {"one": 1}},
    {"payment_amount": "NaN"},
    {"payment_amount": 1.001},
    {"payment_method": "Barter"},
    {"delivery_address": " "},
    {"colour": "blue"},
    {"key": "\0"},
    {"key": "a~1"},
]


def test_submit__malformed_requests_are_kept_with_the_reason(shop: Database) -> None:
    requests = [{**request("a"), **members} for members in MALFORMED]
    assert set(submit(shop, *requests, *requests)) == {"refused"}
    with shop.connect() as connection:
        assert connection.execute("SELECT count(*) FROM orders.rejected_requests").fetchone() == (len(MALFORMED),)
        assert connection.execute("SELECT count(*) FROM orders.requests").fetchone() == (0,)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"customer_id": 99}, "customer 99 is unknown"),
        ({"products": {"1": 1, "9": 1}}, "product 9 is unknown"),
        ({"products": {"1": 1, "2": 51}}, "product 2 is out of stock"),
    ],
)
def test_acknowledge__rejects_what_cannot_be_met(shop: Database, members: dict[str, object], reason: str) -> None:
    submit(shop, request("a", **members))
    with shop.connect() as connection:
        before = stock(connection)
        assert steps.acknowledge(connection, "a") == steps.Rejected(reason)
        assert steps.acknowledge(connection, "a") == steps.Rejected(reason)
        assert stock(connection) == before
        assert connection.execute("SELECT count(*) FROM orders.orders").fetchone() == (0,)
        assert notifications(connection, "a") == []


def test_acknowledge__takes_stock_that_is_given_back_while_it_waits(shop: Database) -> None:
    submit(shop, request("a", products={"1": 1}))
    with shop.connect() as giving, shop.connect() as taking, ThreadPoolExecutor(1) as pool:
        with giving.transaction():
            giving.execute("UPDATE orders.inventory SET quantity = 0 WHERE product_id = 1")
        with giving.transaction():
            giving.execute("UPDATE orders.inventory SET quantity = 1 WHERE product_id = 1")
            taken = pool.submit(_acknowledged, taking)
            # It waits for the row that is given back.
            while not giving.execute("SELECT pid FROM pg_locks WHERE NOT granted").fetchone():
                assert not taken.done()
        assert isinstance(taken.result(30), steps.Acknowledged)
        assert stock(giving)[1] == 0


def _acknowledged(connection: psycopg.Connection) -> steps.Acknowledged | steps.Rejected:
    with connection.transaction():
        return steps.acknowledge(connection, "a")


def test_acknowledge__checks_the_amount_where_products_have_prices(shop: Database) -> None:
    submit(shop, request("a"), request("b", payment_amount="85.50"))
    with shop.connect() as connection:
        connection.execute("UPDATE orders.inventory SET price = product_id * 10 + 3.5")
        assert steps.acknowledge(connection, "a") == steps.Rejected("the products cost 84.0, and not 2000.00")
        connection.execute("UPDATE orders.inventory SET price = 15 WHERE product_id = 1")
        connection.execute("UPDATE orders.inventory SET price = 23.50 WHERE product_id = 2")
        assert isinstance(steps.acknowledge(connection, "b"), steps.Acknowledged)


def test_cancel__is_decided_by_the_booking(shop: Database) -> None:
    submit(shop, request("early"), request("paid"), request("late"))
    with open_desk(place_of(shop)) as desk, shop.connect(autocommit=True) as connection:
        desk.cancel("early")
        assert isinstance(steps.acknowledge(connection, "early"), steps.Rejected)
        run_to(connection, "paid", "paid")
        desk.cancel("paid")
        assert steps.book(connection, "paid") == "cancelled"
        run_to(connection, "late", "booked")
        with pytest.raises(OrderRefused, match="handed to the carrier"):
            desk.cancel("late")
        with pytest.raises(OrderRefused, match="no such order"):
            desk.cancel("nothing")


def test_compensation_gives_everything_back(shop: Database) -> None:
    submit(shop, request("a"))
    with shop.connect() as connection:
        before = stock(connection)
        run_to(connection, "a", "booked")
        for _ in range(2):
            steps.release(connection, "a", "restocked")
            steps.refund(connection, "a", "re_a")
            steps.cancel(connection, "a", "delivery: refused", steps.FAILED)
        assert stock(connection) == before
        assert notifications(connection, "a")[-1] == "cancelled"
        assert not any(broken_invariants(connection).values())


def test_expired_reservations_are_given_back_and_taken_again(shop: Database) -> None:
    submit(shop, request("a"))
    with shop.connect(autocommit=True) as connection:
        before = stock(connection)
        run_to(connection, "a", "acknowledged")
        assert not steps.release_expired(connection)
        connection.execute("UPDATE orders.stock_bookings SET expires_at = now() - interval '1 s'")
        assert steps.release_expired(connection)
        assert not steps.release_expired(connection)
        assert stock(connection) == before
        steps.pay(connection, "a", "ch_a")
        connection.execute("UPDATE orders.inventory SET quantity = 2 WHERE product_id = 2")
        assert steps.book(connection, "a") == "out of stock"
        connection.execute("UPDATE orders.inventory SET quantity = 50 WHERE product_id = 2")
        assert steps.book(connection, "a") == "booked"
        assert stock(connection)[2] == 47


@pytest.mark.parametrize(
    ("reached", "statement"),
    [
        ("acknowledged", "UPDATE orders.orders SET order_status = 'Shipped'"),
        ("paid", "UPDATE orders.orders SET order_status = 'Shipped'"),
        ("paid", "UPDATE orders.orders SET order_status = 'Cancelled'"),
        ("paid", "UPDATE orders.payments SET payment_status = 'Failed'"),
        ("shipped", "UPDATE orders.orders SET order_status = 'Cancelled'"),
        ("shipped", "UPDATE orders.delivery_schedule SET status = 'Not Scheduled'"),
        ("shipped", "UPDATE orders.stock_bookings SET booking_status = 'Released'"),
        ("shipped", "UPDATE orders.inventory SET quantity = -1"),
        ("shipped", "DELETE FROM orders.events"),
        ("shipped", "UPDATE orders.order_lines SET quantity = 9"),
    ],
)
def test_the_database_guards_transitions(shop: Database, reached: str, statement: str) -> None:
    submit(shop, request("a"))
    with shop.connect(autocommit=True) as connection:
        run_to(connection, "a", reached)
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(statement.encode())


BREAKS = {
    "no request is lost": "DELETE FROM orders_engine.workflow_status WHERE workflow_uuid = 'waiting'",
    "stock is never negative": "ALTER TABLE orders.inventory DROP CONSTRAINT stock_is_not_negative; "
    "UPDATE orders.inventory SET quantity = -1 WHERE product_id = 3",
    "on hand + reserved + shipped = received": "UPDATE orders.inventory SET quantity = quantity + 1",
    "an order's lines are booked or given back": "DELETE FROM orders.stock_bookings WHERE product_id = 2",
    "charged - refunded = value shipped": "UPDATE orders.payments SET payment_status = 'Refunded'",
    "every order ends in time": "UPDATE orders.orders SET deadline_at = now() - interval '1 s'",
    "events are in order": "DELETE FROM orders.events WHERE event = 'paid'",
    "one notification a stage": "DELETE FROM orders.order_notifications WHERE stage = 'paid'",
}


@pytest.mark.parametrize("invariant", INVARIANTS)
def test_an_invariant_fails_on_a_table_that_was_broken(shop: Database, invariant: str) -> None:
    submit(shop, request("waiting"), request("under way"), request("shipped"))
    with shop.connect() as connection:
        run_to(connection, "under way", "booked")
        run_to(connection, "shipped", "shipped")
        assert not any(broken_invariants(connection).values())
        connection.execute("SET session_replication_role = replica")
        connection.execute(BREAKS[invariant].encode())
        assert broken_invariants(connection)[invariant]
        connection.rollback()


def test_disagreements__of_the_statements(shop: Database) -> None:
    submit(shop, request("a"))
    charge = {"order_id": "a", "kind": "charge", "status": 200, "amount": "2000.00"}
    delivery = {"order_id": "a", "status": 200, "body": '{"tracking_number": "DHL-a"}'}
    with shop.connect() as connection:
        run_to(connection, "a", "shipped")
        assert disagreements(connection, [charge], [delivery]) == {PROVIDER_AGREES: [], CARRIER_AGREES: []}
        wrong = {**charge, "amount": "1.00"}
        assert disagreements(connection, [wrong], []) == {PROVIDER_AGREES: ["a"], CARRIER_AGREES: ["a"]}
        twice = {**charge, "kind": "refund"}
        assert disagreements(connection, [charge, twice], [delivery])[PROVIDER_AGREES] == ["a"]


def test_list_orders__stuck_ones(shop: Database) -> None:
    submit(shop, request("late"), request("marked"), request("fine"))
    with shop.connect(autocommit=True) as connection:
        for key in ("late", "marked", "fine"):
            run_to(connection, key, "paid")
        connection.execute("UPDATE orders.orders SET deadline_at = now() - interval '1 s' WHERE order_id = 'late'")
        steps.need_attention(connection, "marked", "the provider doesn't answer")
    with open_desk(place_of(shop)) as desk:
        assert [order["order_id"] for order in list_orders(desk, stuck=True)] == ["late", "marked"]
        assert len(list_orders(desk, stuck=False)) == 3


def test_list_orders__requests_that_were_never_acknowledged(shop: Database) -> None:
    submit(shop, request("late"), request("failed"), request("waits"))
    with shop.connect() as connection:
        connection.execute("UPDATE orders.requests SET received_at = now() - interval '16 min' WHERE order_id = 'late'")
        connection.execute(
            "UPDATE orders_engine.workflow_status SET status = 'ERROR', owner_xid = NULL WHERE workflow_uuid = 'failed'"
        )
    with open_desk(place_of(shop)) as desk:
        assert desk.mark_failed() == ["failed"]
        assert desk.mark_failed() == []
        failed, late = list_orders(desk, stuck=True)
        assert (failed["order_id"], failed["order_status"], failed["payment_amount"]) == ("failed", "Waiting", 2000)
        assert failed["attention"].startswith("the saga failed")
        assert show_order(desk, "failed")["attention"] == failed["attention"]
        assert late["order_id"] == "late"
        assert [order["order_id"] for order in list_orders(desk, stuck=False)] == ["failed", "late", "waits"]
        assert desk.resume("failed") == "failed~1"
        assert [order["order_id"] for order in list_orders(desk, stuck=True)] == ["late"]


def test_acknowledge__after_another_request_under_its_key_was_refused(shop: Database) -> None:
    """The second request is rejected, and not the first, which waits."""
    assert submit(shop, request("a"), request("a", payment_amount=1)) == ["submitted", "refused"]
    with shop.connect() as connection:
        run_to(connection, "a", "shipped")
        assert not any(broken_invariants(connection).values())
    with open_desk(place_of(shop)) as desk:
        assert show_order(desk, "a")["order_status"] == "Shipped"


def test_submit__from_python(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_DATABASE_URL", shop.url)
    first, second = orders.submit([request("a"), {"key": "b"}])
    assert (first.key, first.status) == ("a", "submitted")
    assert (second.key, second.status, second.error) == ("b", "refused", "it has no customer_id")


def test_restock__once_per_key(shop: Database) -> None:
    with shop.connect() as connection:
        assert [steps.restock(connection, "note 1", 1, 5) for _ in range(2)] == [True, False]
        assert stock(connection)[1] == 105
        assert not any(broken_invariants(connection).values())
