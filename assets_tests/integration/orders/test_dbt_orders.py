"""The models of orders: what they have, and each of their checks notices what it is for."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from assets_tests.support.dbt_warehouse import Warehouse
from assets_tests.support.servers.postgres import EmbeddedPostgres, copy_of
from assets_tests.support.shop_orders import make_shop, request, run_to, submit
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.derive.captured import CapturedSource, capture_and_derive
from lakehouse.domains.orders.database import steps
from lakehouse.servers.postgres import Database
from lakehouse.settings import settings
from lakehouse.warehouse.dbt import manifest

pytestmark = pytest.mark.integration
TAMPERING = {
    "insert into marts.fct_order from (from marts.fct_order limit 1)": {
        "fct_order_key",
        "fct_order_has_all_orders",
        "order_funnel_has_all_orders",
    },
    "update marts.fct_order set refunded_amount = 0": {
        "fct_order_charged_is_shipped",
        "refunds_by_reason_has_all_refunds",
    },
    "delete from marts.fct_order": {
        "fct_order_has_all_orders",
        "order_funnel_has_all_orders",
        "fct_stock_movement_order_exists",
        "refunds_by_reason_has_all_refunds",
    },
    "insert into marts.fct_stock_movement from (from marts.fct_stock_movement limit 1)": {
        "fct_stock_movement_key",
        "fct_stock_movement_sums_to_stock",
    },
    "insert into marts.order_funnel from (from marts.order_funnel where stage_number = 5)": {"order_funnel_key"},
    "update marts.order_funnel set order_count = 9 where stage = 'booked'": {"order_funnel_narrows"},
    "insert into marts.time_in_stage from (from marts.time_in_stage limit 1)": {"time_in_stage_key"},
    "update marts.time_in_stage set median_s = -1": {"time_in_stage_ranges"},
    "insert into marts.refunds_by_reason from (from marts.refunds_by_reason limit 1)": {
        "refunds_by_reason_key",
        "refunds_by_reason_has_all_refunds",
    },
}


def fill(shop: Database) -> None:
    """An order that is shipped, one that the carrier refuses, one that waits, one that is declined; late in the day."""
    submit(shop, *(request(key) for key in ("shipped", "refused", "waiting", "declined")))
    with shop.connect() as connection:
        connection.execute("UPDATE orders.requests SET received_at = '2026-03-01 23:30Z'")
        run_to(connection, "shipped", "shipped")
        run_to(connection, "refused", "booked")
        steps.release(connection, "refused", "restocked")
        steps.refund(connection, "refused", "re_refused")
        steps.cancel(connection, "refused", "delivery: address not served", steps.FAILED)
        run_to(connection, "waiting", "acknowledged")
        run_to(connection, "declined", "acknowledged")
        steps.release(connection, "declined", "released")
        steps.cancel(connection, "declined", "payment: card declined", steps.PAYMENT_FAILED)


def test_models__show_orders_and_every_check_notices_what_it_is_for(
    embedded_postgres: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with copy_of(embedded_postgres.server, "orders_shop", make_shop) as shop:
        monkeypatch.setenv("LAKEHOUSE_DATABASE_URL", shop.url)
        monkeypatch.setenv("LAKEHOUSE_ORDERS_TIME_ZONE", "Europe/Berlin")
        settings.cache_clear()
        fill(shop)
        source = described_source("orders")
        assert isinstance(source, CapturedSource)
        capture_and_derive(Lake.present(), source)
    warehouse = Warehouse(tmp_path / "warehouse", others=[source])
    checks = warehouse.build("--select", "fqn:lakehouse.marts.orders")
    tests = [node for node in manifest(settings()).nodes.values() if node.resource_type == "test"]
    assert checks.keys() == {node.name for node in tests if node.fqn[2] == "orders"}
    amount = Decimal("2000.00")
    assert warehouse.query(
        "SELECT order_id, order_day, order_status, piece_count, charged_amount - refunded_amount, "
        "shipped_at IS NOT NULL, cancel_reason FROM marts.fct_order ORDER BY order_id"
    ) == [
        ("declined", date(2026, 3, 2), "Cancelled", 4, 0, False, "payment: card declined"),
        ("refused", date(2026, 3, 2), "Cancelled", 4, 0, False, "delivery: address not served"),
        ("shipped", date(2026, 3, 2), "Shipped", 4, amount, True, None),
        ("waiting", date(2026, 3, 2), "Pending", 4, 0, False, None),
    ]
    assert warehouse.query(
        "SELECT product_id, sum(quantity_change) FROM marts.fct_stock_movement WHERE product_id < 3 GROUP BY ALL "
        "ORDER BY ALL"
    ) == [(1, 98), (2, 44)]
    assert warehouse.query("SELECT stage, order_count FROM marts.order_funnel ORDER BY stage_number") == [
        ("acknowledged", 4),
        ("paid", 2),
        ("booked", 2),
        ("shipped", 1),
        ("delivered", 0),
    ]
    assert warehouse.query("SELECT stage, next_stage, order_count FROM marts.time_in_stage ORDER BY ALL") == [
        ("acknowledged", "paid", 2),
        ("acknowledged", "released", 1),
        ("booked", "restocked", 1),
        ("booked", "shipped", 1),
        ("paid", "booked", 2),
        ("refunded", "cancelled", 1),
        ("released", "cancelled", 1),
        ("restocked", "refunded", 1),
    ]
    assert warehouse.query("SELECT reason, refund_count, refunded_amount FROM marts.refunds_by_reason") == [
        ("delivery: address not served", 1, amount)
    ]
    assert warehouse.noticed(TAMPERING, checks) == TAMPERING
    assert set().union(*TAMPERING.values()) == checks.keys()
