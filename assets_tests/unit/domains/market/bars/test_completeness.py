"""Which objects a source's status calls unreadable."""

from __future__ import annotations

from datetime import date

import polars as pl

from lakehouse.domains.market.bars.completeness import unreadable_objects
from lakehouse.domains.market.bars.config import source_named
from lakehouse.lake.contract import contract_of


def test_a_failed_object_of_a_series_that_was_taken_out_of_the_yaml_is_left_out() -> None:
    day = date(2024, 3, 1)
    row = {"source": "alpha_vantage", "object_version": "1", "status": "failed", "error": "no answer"}
    row |= {"first_session": day, "last_session": day, "sequence": 1}
    objects = {"bars": "bars/2024-03/adjusted=false/AAPL", "official_daily": "official_daily/AAPL"}
    rows = [{**row, "product": product, "object": name} for product, name in objects.items()]
    ledger = pl.DataFrame(rows, schema=pl.Schema(contract_of("ingest_ledger").arrow_schema)).lazy()
    config = source_named("alpha_vantage")
    config = config.model_copy(update={"api": config.api.model_copy(update={"symbols": ("AAPL",)})})  # type: ignore[union-attr]
    assert {found["product"] for found in unreadable_objects(config, ledger)} == set(objects)
    without = config.model_copy(update={"official_daily": None})
    assert [found["product"] for found in unreadable_objects(without, ledger)] == ["bars"]
