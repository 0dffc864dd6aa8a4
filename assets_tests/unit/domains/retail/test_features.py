"""Features and labels of customers: no later line changes a feature, and labels are of later lines alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
from hypothesis import given
from hypothesis import strategies as st

from assets_tests.support.shop_files import Line, most
from lakehouse.domains.retail.features import features, labels
from lakehouse.lake.sql import Relation

FIRST = date(2024, 1, 1)

lines_of_a_shop = st.lists(
    st.builds(
        lambda invoice, code, quantity, day, price, customer, country: Line(
            invoice, code, None, quantity, datetime(2024, 1, 1, 9) + timedelta(days=day), price, customer, country
        ),
        st.sampled_from(["500001", "500002", "500003", "C500004"]),
        st.sampled_from(["10001", "10002"]),
        st.sampled_from([1, 5, -2]),
        st.integers(0, 130),
        st.sampled_from([Decimal("0"), Decimal("1.5"), Decimal("20")]),
        st.sampled_from(["1", "2", "3", None]),
        st.sampled_from(["France", "Spain"]),
    ),
    max_size=30,
)


def asked(query: str, lines: Sequence[Line]) -> list[dict[str, Any]]:
    with duckdb.connect() as connection:
        connection.execute(
            """
            CREATE TABLE lines (
                invoice_no VARCHAR, stock_code VARCHAR, quantity BIGINT, day DATE, customer_id VARCHAR, country VARCHAR,
                kind VARCHAR, amount DECIMAL(18, 4)
            )
            """
        )
        rows = [
            (
                *(line.invoice_no, line.stock_code, line.quantity, line.day, line.customer_id, line.country),
                *(line.kind, line.quantity * line.unit_price),
            )
            for line in lines
        ]
        if rows:
            connection.executemany("INSERT INTO lines VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        return connection.execute(query).to_arrow_table().to_pylist()


def features_on(day: date, lines: Sequence[Line]) -> list[dict[str, Any]]:
    return asked(features(Relation("lines"), f"DATE '{day}'"), lines)


def labels_on(day: date, horizon: int, lines: Sequence[Line]) -> list[dict[str, Any]]:
    return asked(labels(Relation("lines"), f"DATE '{day}'", str(horizon)), lines)


def of_customer(lines: Sequence[Line], customer: str) -> list[Line]:
    return [line for line in lines if line.customer_id == customer]


def money(lines: Sequence[Line]) -> Decimal:
    return sum((line.quantity * line.unit_price for line in lines), Decimal(0))


@given(lines=lines_of_a_shop, day=st.integers(0, 131))
def test_features__know_nothing_of_later_lines(lines: list[Line], day: int) -> None:
    as_of = FIRST + timedelta(days=day)
    before = [line for line in lines if line.day < as_of]
    found = features_on(as_of, lines)
    assert found == features_on(as_of, before)
    sales = [line for line in before if line.kind == "sale" and line.customer_id]
    assert [row["customer_id"] for row in found] == sorted({str(line.customer_id) for line in sales})
    for row in found:
        own = of_customer(before, row["customer_id"])
        bought = [line for line in own if line.kind == "sale"]
        last = max(line.day for line in own)
        assert row["country"] == most(line.country for line in own if line.day == last)
        assert row["first_day"] == min(line.day for line in bought)
        assert row["recency_days"] == (as_of - max(line.day for line in bought)).days
        assert row["invoice_count"] == len({line.invoice_no for line in bought})
        assert row["item_count"] == len({line.stock_code for line in bought})
        assert (row["total"], row["sales"]) == (money(own), money(bought))
        assert row["total_30d"] == money([line for line in own if line.day >= as_of - timedelta(days=30)])
        # The fifth that it is in: by the customers with as much or less.
        upto = sum(other["total"] <= row["total"] for other in found)
        assert row["monetary"] == -(-5 * upto // len(found))


@given(lines=lines_of_a_shop, day=st.integers(0, 131), horizon=st.integers(1, 60))
def test_labels__are_of_the_days_of_the_horizon(lines: list[Line], day: int, horizon: int) -> None:
    as_of = FIRST + timedelta(days=day)
    end = as_of + timedelta(days=horizon)
    found = labels_on(as_of, horizon, lines)
    assert [row["customer_id"] for row in found] == [row["customer_id"] for row in features_on(as_of, lines)]
    is_over = any(line.day >= end - timedelta(days=1) for line in lines)
    for row in found:
        later = [line for line in of_customer(lines, row["customer_id"]) if as_of <= line.day < end]
        bought = [line for line in later if line.kind == "sale"]
        wanted = (bool(bought), len({line.invoice_no for line in bought}), money(bought), money(later))
        assert row["is_over"] == is_over
        assert (row["has_bought"], row["invoice_count"], row["sales"], row["total"]) == (
            wanted if is_over else (None,) * 4
        )


def test_features__give_equal_customers_equal_scores() -> None:
    moment = datetime(2024, 1, 1, 9)
    lines = [Line(customer, "1", None, 1, moment, Decimal(2), customer, "France") for customer in ("1", "2")]
    assert [row["segment"] for row in features_on(date(2024, 1, 2), lines)] == ["champion", "champion"]
