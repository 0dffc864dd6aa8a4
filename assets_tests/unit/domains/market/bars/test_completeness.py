"""Which objects a source's status calls unreadable, and which sessions miss some."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import yaml

from assets_tests.conftest import PROJECT_ROOT
from assets_tests.support.described import changed, contract_of, resolved
from lakehouse.catalog import source_named
from lakehouse.derive.checks import unreadable_objects
from lakehouse.domains.market.bars.completeness import missing_objects
from lakehouse.domains.market.bars.config import SourceConfig


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


def test_missing_objects__of_histories_is_the_session_that_was_cut_by_their_publication() -> None:
    given = yaml.safe_load((PROJECT_ROOT / "lakehouse" / "vendors" / "firstrate.yaml").read_text())
    source = resolved(SourceConfig.model_validate(given["attributes"]))
    published = datetime(2024, 3, 5, 18, tzinfo=UTC)  # while the session of that day goes on
    row = {"source": "firstrate", "object": "AAPL_full_1min_UNADJUSTED.txt", "object_version": "1", "status": "loaded"}
    row |= {"product": "bars", "first_session": date(2000, 1, 3), "last_session": date(2024, 3, 5)}
    ledger = pl.DataFrame(
        [row | {"published_at": published}], schema=pl.Schema(contract_of("ingest_ledger").arrow_schema)
    )
    days = [date(2024, 3, 4), date(2024, 3, 5), date(2024, 3, 6)]
    assert missing_objects(source, ledger, days) == {days[1]: ["a history published after its close"]}
    whole = ledger.with_columns(published_at=pl.lit(published + timedelta(hours=4)).cast(ledger.schema["published_at"]))
    assert missing_objects(source, whole, days) == {}
