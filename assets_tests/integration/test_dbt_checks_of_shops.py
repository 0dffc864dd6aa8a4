"""The checks on the models of shops and documents: each notices what it is for. And what else their marts have."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from assets_tests.support.dbt_warehouse import Warehouse
from assets_tests.support.shop_files import Line, put_day
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.derive.source import Source
from lakehouse.ingest.load import load
from lakehouse.settings import settings
from lakehouse.simulators.pdf_files import pdf
from lakehouse.warehouse.dbt import manifest

PARTS = ("retail", "documents")
DAYS = [date(2024, 1, 30), date(2024, 2, 6)]
TAMPERING = {
    "insert into marts.dim_item from marts.dim_item": {
        "dim_item_key",
        "dim_item_versions_continuous",
        "dim_item_has_all_versions",
    },
    "update marts.dim_item set valid_to = valid_to + 1 where not is_current": {"dim_item_versions_continuous"},
    "update marts.dim_item set is_current = false": {"dim_item_versions_continuous"},
    "update marts.dim_item set item_key = 'none'": {"dim_item_key", "fct_sale_line_item_exists"},
    "update marts.dim_item set stock_code = stock_code || 'x'": {"dim_item_has_all_versions"},
    "update marts.dim_customer set customer_key = 'none'": {"dim_customer_key", "fct_sale_line_customer_exists"},
    "update marts.dim_customer set valid_to = valid_to - 1 where not is_current": {"dim_customer_versions_continuous"},
    "insert into marts.dim_country from marts.dim_country": {"dim_country_key"},
    "delete from marts.dim_country where country = 'France'": {"fct_sale_line_country_exists"},
    "insert into marts.fct_sale_line from marts.fct_sale_line": {"fct_sale_line_key", "fct_sale_line_has_all_money"},
    "update marts.fct_sale_line set amount = amount + 1": {"fct_sale_line_has_all_money"},
    "insert into marts.fct_invoice from marts.fct_invoice": {"fct_invoice_key"},
    "insert into marts.revenue from marts.revenue": {"revenue_key"},
    "update marts.revenue set sales = sales + 1": {"revenue_adds_up"},
    "insert into marts.customer_value from marts.customer_value": {"customer_value_key"},
    "insert into marts.customer_cohort from marts.customer_cohort": {"customer_cohort_key"},
    "insert into marts.item_price_response from marts.item_price_response": {"item_price_response_key"},
    "insert into marts.dim_customers from marts.dim_customers": {"dim_customers_key"},
    "insert into marts.dim_items from marts.dim_items": {"dim_items_key"},
    """
    alter table marts.fact_transactions alter item_id drop not null;
    update marts.fact_transactions set item_id = null
    """: {"fact_transactions_have_items"},
    "insert into marts.dim_document from marts.dim_document": {"dim_document_key"},
    "delete from marts.dim_document": {"document_chunk_document_exists"},
    "insert into marts.document_chunk from marts.document_chunk": {"document_chunk_key"},
    "delete from marts.document_chunk": {"document_posting_chunk_exists"},
    "insert into marts.document_posting from marts.document_posting": {"document_posting_key"},
}


def take(name: str) -> Source:
    lake, source = Lake.open(), described_source(name)
    months = [day.replace(day=1) for day in DAYS]
    load(lake, source.datasets[0], months)
    for table in source.tables:
        table.derive(lake, source, months)
    return source


def test_every_check_notices_what_it_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, day in enumerate(DAYS):
        moment = datetime(day.year, day.month, day.day, 9)
        price, country = Decimal(number + 1), ["France", "Spain"][number]
        put_day(
            tmp_path / "shop",
            day,
            [
                Line(f"50{number}", "10001", "LAMP", 2, moment, price, "17850", country),
                Line(f"50{number}", "10002", "BOX", 1, moment, price, None, country),
                Line(f"51{number}", "10002", "BOX", 1, moment, price, f"1300{number}", country),
            ],
        )
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "terms.pdf").write_bytes(pdf(["refund of a lamp"]))
    monkeypatch.setenv("LAKEHOUSE_RETAIL_URL", str(tmp_path / "shop"))
    monkeypatch.setenv("LAKEHOUSE_DOCUMENTS_URL", str(tmp_path / "files"))
    warehouse = Warehouse(tmp_path / "warehouse", others=[take("retail"), take("documents")])
    checks = warehouse.build("--select", *(f"fqn:lakehouse.marts.{part}" for part in PARTS))
    tests = [node for node in manifest(settings()).nodes.values() if node.resource_type == "test"]
    assert checks.keys() == {node.name for node in tests if node.fqn[2] in PARTS}
    # Built once for both: the mart scores customers as the features do on the day after the last line.
    scores = "customer_id, last_day, invoice_count, total, recency, frequency, monetary, segment"
    known = Lake.open().sql(f"SELECT {scores} FROM retail.customer_features()")
    assert known is not None
    assert warehouse.query(f"SELECT {scores} FROM marts.customer_value") == known.fetchall()

    assert warehouse.noticed(TAMPERING, checks) == TAMPERING
    assert set().union(*TAMPERING.values()) == checks.keys()
