"""From rows of marts back to the revisions, objects and row numbers that they come from."""

from __future__ import annotations

import csv
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assets_tests.support.shop_files import Line, put_day
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.cli.app import app
from lakehouse.governance.described import described_tables, table_named
from lakehouse.governance.graph import whole_lineage
from lakehouse.governance.row_lineage import Rows, rows_behind
from lakehouse.ingest.load import load
from lakehouse.settings import settings
from lakehouse.warehouse.publish import publish

DAY = date(2024, 1, 30)
MONTH = DAY.replace(day=1)


def line(number: int, code: str, price: str) -> Line:
    moment = datetime(DAY.year, DAY.month, DAY.day, 9)
    return Line(f"5365{number}", code, "A lantern", 2, moment, Decimal(price), "17850", "France")


def take() -> None:
    lake, source = Lake.open(), described_source("retail")
    load(lake, source.datasets[0], [MONTH])
    for table in source.tables:
        table.derive(lake, source, [MONTH])


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A shop with one day of three lines that came twice: the second time with another price."""
    monkeypatch.setenv("LAKEHOUSE_RETAIL_URL", str(tmp_path / "shop"))
    settings.cache_clear()
    settings().home.mkdir()
    for price in ("1.00", "1.25"):
        put_day(tmp_path / "shop", DAY, [line(1, "84406B", "3.39"), line(2, "22752", price), line(3, "22752", "2.00")])
        take()
    publish(settings())
    return Lake.open()


def behind(lake: Lake, table: str, where: str) -> dict[str, Rows]:
    tables = described_tables(lake)
    found = rows_behind(lake, whole_lineage(tables, lake.config), tables, table_named(tables, table), where, 100)
    return {rows.table: rows for rows in found}


def test_rows_behind_lead_from_a_mart_to_revisions_objects_and_row_numbers(lake: Lake, tmp_path: Path) -> None:
    found = behind(lake, "fct_sale_line", "invoice_no = '53652'")
    assert [found[name].level for name in ("marts.fct_sale_line", "retail.sale_lines", "retail.raw_lines")] == [0, 1, 2]
    (raw,) = found["retail.raw_lines"].raw_rows()
    stored = lake.sql("SELECT object, object_version FROM retail.raw_lines WHERE unit_price = 1.25")
    assert stored is not None
    assert (raw["object"], raw["object_version"]) == stored.fetchone()
    assert raw["row_number"] == "2"
    assert found["retail.raw_lines"].is_exact

    # The lines of a version of an item are those of its code: some may belong to another version.
    found = behind(lake, "retail.items", "stock_code = '22752'")
    assert len(found["retail.sale_lines"].values) == 2
    assert not found["retail.sale_lines"].is_exact

    assert list(behind(lake, "fct_sale_line", "false")) == ["marts.fct_sale_line"]

    file = tmp_path / "rows.csv"
    ran = CliRunner().invoke(app, ["lineage", "fct_sale_line", "--where", "kind = 'sale'", "-o", str(file)])
    assert ran.exit_code == 0
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert {row["object"] for row in rows} == {f"{DAY}.csv"}
    # Both revisions of the lines that came twice.
    assert sorted(row["row_number"] for row in rows) == ["1", "1", "2", "3", "3"]
    wrong = CliRunner().invoke(app, ["lineage", "fct_sale_line", "--where", "no_column = 1"])
    assert wrong.exit_code == 2
