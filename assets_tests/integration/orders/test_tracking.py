"""Events of the carrier: whatever their order, and however often they come, a delivery ends in the same status."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from assets_tests.support.shop_orders import place_of, request, run_to, submit
from lakehouse import orders
from lakehouse.cli.app import app
from lakehouse.domains.orders.control import open_desk
from lakehouse.domains.orders.database.tracking import CarrierEvent, carrier_event_of, track
from lakehouse.domains.orders.invariants import broken_invariants
from lakehouse.domains.orders.reading import list_orders, show_order
from lakehouse.servers.postgres import Database

STATUSES = ("In Transit", "Failed", "Delivered")


def event(key: str, status: str) -> dict[str, Any]:
    moment = f"2026-12-0{1 + STATUSES.index(status)}T09:00:00Z"
    return {"event_id": f"{key} {status}", "tracking_number": f"DHL-{key}", "status": status, "occurred_at": moment}


def test_track__moves_the_delivery_and_ends_the_order(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_DATABASE_URL", shop.url)
    submit(shop, request("a"))
    with shop.connect() as connection:
        run_to(connection, "a", "shipped")
    assert [answer.status for answer in orders.track([event("a", "In Transit")] * 2)] == ["applied", "replayed"]
    with open_desk(place_of(shop)) as desk:
        assert (show_order(desk, "a")["delivery_status"], show_order(desk, "a")["order_status"]) == (
            "In Transit",
            "Shipped",
        )
        assert [answer.status for answer in orders.track([event("a", "Failed")])] == ["applied"]
        (stuck,) = list_orders(desk, stuck=True)
        assert (stuck["delivery_status"], stuck["payment_status"]) == ("Failed", "Paid")
        assert stuck["attention"] == "the carrier couldn't deliver it"
        assert [answer.status for answer in orders.track([event("a", "Delivered")])] == ["applied"]
        assert list_orders(desk, stuck=True) == []
        shown = show_order(desk, "a")
    assert [each["event"] for each in shown["events"]][3:] == ["shipped", "in_transit", "delivery_failed", "delivered"]
    assert len(shown["notifications"]) == 4
    with shop.connect() as connection:
        assert not any(broken_invariants(connection).values())


def test_track__in_any_order_and_before_the_acceptance(shop: Database) -> None:
    """Each order of the three events, with the acceptance at each place among them."""
    cases = [(order, place) for order in permutations(STATUSES) for place in range(4)]
    keys = [f"case {number}" for number in range(len(cases))]
    submit(shop, *(request(key, products={"3": 1}) for key in keys))
    with shop.connect() as connection:
        for key, (order, place) in zip(keys, cases, strict=True):
            run_to(connection, key, "booked")
            for number, status in enumerate(order):
                if number == place:
                    run_to(connection, key, "shipped")
                found = carrier_event_of(event(key, status))
                assert isinstance(found, CarrierEvent)
                assert (track(connection, found) == "waiting") == (number < place)
            if place == len(order):
                run_to(connection, key, "shipped")
        ends = connection.execute(
            "SELECT DISTINCT order_status, status, attention FROM orders.orders JOIN orders.delivery_schedule "
            "USING (order_id)"
        ).fetchall()
        assert ends == [("Delivered", "Delivered", None)]
        assert not any(broken_invariants(connection).values())


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"status": "Lost"}, "status has to be one of In Transit, Failed, Delivered"),
        ({"occurred_at": "2026-12-01T09:00:00"}, "occurred_at has to name its time zone, such as Z"),
        ({"occurred_at": "yesterday"}, "occurred_at has to be a time such as 2026-03-01T12:00:00Z"),
        ({"event_id": ""}, "event_id has to be printable text of at most 200 characters"),
        ({"weight": 1}, "weight is no member of an event; they are event_id, tracking_number, status, occurred_at"),
    ],
)
def test_carrier_event_of__says_what_is_wrong(members: dict[str, Any], error: str) -> None:
    assert carrier_event_of(event("a", "Failed") | members) == error


def test_track__the_command_reports_on_each_line(
    shop: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_DATABASE_URL", shop.url)
    first = event("unknown", "In Transit")
    lines = [json.dumps(first), json.dumps({**first, "status": "Delivered"}), "[]"]
    (tmp_path / "events.jsonl").write_text("\n".join(lines))
    result = CliRunner().invoke(app, ["orders", "track", str(tmp_path / "events.jsonl")])
    assert result.exit_code == 1
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"event_id": "unknown In Transit", "status": "waiting"},
        {"event_id": "unknown In Transit", "status": "refused", "error": "the event_id belongs to another event"},
        {"status": "refused", "error": "the line is no JSON object"},
    ]
