"""Which objects a source's status calls unreadable."""

from __future__ import annotations

from datetime import date

import polars as pl

from assets_tests.support.described import changed, contract_of
from lakehouse.catalog import source_named
from lakehouse.derive.checks import unreadable_objects


def test_a_failed_object_of_a_series_that_was_taken_out_of_the_yaml_is_left_out() -> None:
    day = date(2024, 3, 1)
    row = {"source": "alpha_vantage", "object_version": "1", "status": "failed", "error": "no answer"}
    row |= {"first_session": day, "last_session": day, "sequence": 1}
    objects = {"bars": "bars/2024-03/adjusted=false/AAPL", "official_daily": "official_daily/AAPL"}
    rows = [{**row, "product": product, "object": name} for product, name in objects.items()]
    ledger = pl.DataFrame(rows, schema=pl.Schema(contract_of("ingest_ledger").arrow_schema)).lazy()
    source = source_named("alpha_vantage")
    assert source.config.api is not None
    source = changed(source, api=source.config.api.model_copy(update={"symbols": ("AAPL",)}))
    assert {found["product"] for found in unreadable_objects(source.datasets, ledger)} == set(objects)
    without = changed(source, official_daily=None)
    assert [found["product"] for found in unreadable_objects(without.datasets, ledger)] == ["bars"]
