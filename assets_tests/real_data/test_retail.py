"""The UCI Online Retail data set through the lake: figures counted independently from the files."""

from __future__ import annotations

import shutil
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.derive.rebuild import rebuild
from lakehouse.ingest.load import load

FIRST, LAST, LATE = date(2010, 12, 1), date(2011, 6, 30), date(2011, 6, 26)


def rows(query: str) -> list[tuple[Any, ...]]:
    found = Lake.open().sql(query)
    assert found is not None
    return found.fetchall()


def take(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("LAKEHOUSE_RETAIL_URL", str(folder))
    lake, source = Lake.open(), described_source("retail")
    partitions = source.datasets[0].partitioning.between(FIRST, LAST)
    load(lake, source.datasets[0], partitions)
    for table in source.tables:
        table.derive(lake, source, partitions)


@pytest.fixture
def days(shared_data: Path) -> Path:
    folder = shared_data / "retail" / "by_day"
    if not folder.is_dir():
        pytest.skip("no real retail data: ../shared/data/retail is absent")
    return folder


ITEMS = "SELECT count(*), count(DISTINCT stock_code), sum(list_price) FROM retail.items"


def test_half_a_year_gives_the_figures_of_its_files(
    days: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Path(shutil.copytree(days, tmp_path / "feed", ignore=shutil.ignore_patterns(f"{LATE}*")))
    take(monkeypatch, feed)
    assert rows(ITEMS) == [(12_259, 3_650, Decimal("112892.2710"))]
    before = set(rows("FROM retail.items"))
    shutil.copy(days / f"{LATE}.csv.gz", feed)
    take(monkeypatch, feed)
    assert len({row[1] for row in set(rows("FROM retail.items")) ^ before}) == 21

    assert rows(ITEMS) == [(12_269, 3_651, Decimal("112990.6610"))]
    assert rows("SELECT sum(list_price) FROM retail.items WHERE valid_to IS NULL") == [(Decimal("13909.4410"),)]
    assert rows("SELECT count(*) FROM retail.items WHERE list_price IS NULL") == [(135,)]
    assert rows(
        """
        SELECT count(*), count(DISTINCT invoice_no), count(DISTINCT stock_code), count(DISTINCT customer_id),
            count(DISTINCT country), sum(quantity), sum(amount) FROM retail.sale_lines
        """
    ) == [(245_903, 12_795, 3_651, 3_002, 37, 2_292_167, Decimal("4397950.7610"))]
    kinds = (
        "SELECT kind, count(*), count(DISTINCT invoice_no), sum(amount) FROM retail.sale_lines GROUP BY 1 ORDER BY 1"
    )
    assert rows(kinds) == [
        ("cancellation", 4_494, 2_006, Decimal("-428515.7300")),
        ("free", 720, 401, Decimal(0)),
        ("sale", 239_931, 9_659, Decimal("4826466.4910")),
        ("stock_movement", 758, 758, Decimal(0)),
    ]
    assert rows(
        """
        SELECT count(*) FILTER (customer_id IS NULL), sum(amount) FILTER (customer_id IS NULL),
            count(*) FILTER (description IS NULL) FROM retail.sale_lines
        """
    ) == [(69_014, Decimal("669449.5100"), 924)]
    assert rows("SELECT count(*), sum(quantity), sum(amount) FROM retail.sale_lines WHERE invoice_no = '536365'") == [
        (7, 40, Decimal("139.12"))
    ]
    assert rows("SELECT count(*) FROM retail.customers") == [(3_012,)]
    assert rows("SELECT country, valid_to FROM retail.customers WHERE customer_id = '12370' ORDER BY valid_from") == [
        ("Cyprus", date(2010, 12, 17)),
        ("Austria", date(2011, 3, 10)),
        ("Cyprus", None),
    ]
    assert rows(
        "SELECT description, list_price, valid_from FROM retail.items WHERE stock_code = '84228' ORDER BY valid_from"
    ) == [
        ("HEN HOUSE W CHICK STANDING", Decimal("0.42"), date(2010, 12, 6)),
        ("HEN HOUSE W CHICK STANDING", Decimal("0.37"), date(2011, 1, 6)),
        ("HEN HOUSE W CHICK STANDING", Decimal("0.42"), date(2011, 1, 19)),
        ("HEN HOUSE WITH CHICK STANDING", Decimal("0.42"), date(2011, 4, 4)),
    ]
    assert rows("SELECT list_price, valid_from FROM retail.items WHERE stock_code = '79051A' ORDER BY valid_from") == [
        (Decimal("0.65"), date(2010, 12, 6)),
        (Decimal("0.53"), date(2011, 3, 1)),
        (Decimal("0.65"), date(2011, 3, 16)),
        (Decimal("0.29"), date(2011, 4, 3)),
    ]

    lake, source = Lake.open(), described_source("retail")
    found = {(check.table, check.name): check.run(lake, source, None) for check in source.checks}
    # The data has codes that differ in case, and one such warning is all.
    assert {key for key, finding in found.items() if not finding.passed} == {("sale_lines", "codes_without_case_twins")}
    assert found["sale_lines", "conservation"].facts["received"] == 245_903
    assert not rebuild(lake, source, verify=True).differs
