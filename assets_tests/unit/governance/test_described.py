"""The catalogue describes every table, and a name or a word finds it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from lakehouse.api import Lake
from lakehouse.governance.described import (
    DescribedTable,
    UnknownTable,
    containing,
    described_tables,
    table_named,
)
from lakehouse.governance.models import models
from lakehouse.settings import PROJECT_ROOT


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[DescribedTable]:
    (tmp_path / "lake").mkdir()
    return described_tables(Lake.open(tmp_path))


def names(tables: Sequence[DescribedTable]) -> set[str]:
    return {table.sql_name for table in tables}


def test_described_tables__have_all_that_a_reader_needs(tables: list[DescribedTable]) -> None:
    for table in tables:
        assert table.description, table.sql_name
        assert table.owner.startswith("team:"), table.sql_name
        assert table.columns, table.sql_name
        assert [column.name for column in table.columns if not column.description] == [], table.sql_name


def test_described_tables__cover_domains_views_marts_and_the_lakes_own(tables: list[DescribedTable]) -> None:
    wanted = {
        *("xetra.raw_bars", "iex.top_stocks", "reference.markets", "retail.sale_lines", "documents.chunks"),
        *("banking.customer", "orders.orders", "analyses.runs", "lake.quarantine", "lake.catalog_columns"),
    }
    assert wanted <= names(tables)
    written = {
        model["name"]
        for path in (PROJECT_ROOT / "dbt_project/models/marts").rglob("*.yml")
        for model in yaml.safe_load(path.read_text()).get("models", ())
    }
    assert {table.name for table in tables if table.kind == "mart"} == written


def test_personal_columns_are_confidential_at_least(tables: list[DescribedTable]) -> None:
    levels = {(table.sql_name, column.name): column.classification for table in tables for column in table.columns}
    assert levels["retail.raw_lines", "customer_id"] == "confidential"
    assert levels["banking.customer", "name"] == "restricted"
    assert table_named(tables, "banking.customer").classification == "restricted"
    personal = [column for table in tables for column in table.columns if column.pii]
    assert personal
    assert {column.classification for column in personal} <= {"confidential", "restricted", "pii"}


def test_models__fill_in_shared_descriptions_and_keys() -> None:
    bars = models()["fct_daily_bar"]
    assert bars.key == ("source", "instrument_id", "currency", "session")
    assert next(column for column in bars.columns if column.name == "close").description.startswith("Last traded price")
    assert not [column for model in models().values() for column in model.columns if "{{" in column.description]


def test_table_named__takes_a_name_without_schema_where_it_is_clear(tables: list[DescribedTable]) -> None:
    assert table_named(tables, "fct_daily_bar").sql_name == "marts.fct_daily_bar"
    assert table_named(tables, "Xetra/Bars").sql_name == "xetra.bars"
    with pytest.raises(UnknownTable, match=r"several tables are called daily_bars: .*xetra.daily_bars"):
        table_named(tables, "daily_bars")
    with pytest.raises(UnknownTable, match=r"did you mean 'xetra\.daily_bars'"):
        table_named(tables, "xetra.dayly_bars")


def test_containing__looks_in_names_descriptions_and_columns(tables: list[DescribedTable]) -> None:
    assert "marts.fct_sale_line" in names(list(containing(tables, "STOCK_CODE")))
    assert names(list(containing(tables, "holds open loan"))) == set()
    assert names(list(containing(tables, ""))) == names(tables)
