"""No customer's number is in any file of a lake whose installation has a key for pseudonyms, whose tables are otherwise
the same.
"""

from __future__ import annotations

import gzip
import logging
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from assets_tests.integration.test_shop_collection import Documents, collection, document, server
from assets_tests.integration.test_shop_collection import take as take_documents
from assets_tests.support.shop_files import Line, put_day
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.cli.app import app
from lakehouse.derive.rebuild import rebuild
from lakehouse.ingest import load as loading
from lakehouse.ingest.load import LoadResult, load
from lakehouse.settings import settings

__all__ = ("collection", "server")
DAY = date(2024, 1, 30)
MONTHS = [date(2024, 1, 1)]


@pytest.fixture
def feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAKEHOUSE_RETAIL_URL", str(tmp_path / "feed"))
    return tmp_path / "feed"


def line(customer: str | None, **values: Any) -> Line:
    moment = datetime(2024, 1, 30, 9)
    return Line(**{**vars(Line("500001", "10001", "LAMP", 2, moment, Decimal(1), customer, "France")), **values})


def put_lines(feed: Path) -> None:
    """Lines of two customers, one that breaks the contract and one that can't be divided into fields."""
    put_day(feed, DAY, [line("17850"), line("17850", quantity=3), line("13047"), line(None), line("99123", quantity=4)])
    path = feed / f"{DAY}.csv"
    text = path.read_text().replace("LAMP,4", "LAMP,NaN")
    path.write_text(f"{text}500009,10001,LAMP,1,2024-01-30 09:00:00,1,99124.0,France,extra\n")


def take(*, reread: bool = False) -> LoadResult:
    lake, source = Lake.open(), described_source("retail")
    loaded = load(lake, source.datasets[0], MONTHS, reread=reread)
    for table in source.tables:
        table.derive(lake, source, MONTHS)
    return loaded


def rows(query: str) -> list[tuple[Any, ...]]:
    found = Lake.open().sql(query)
    assert found is not None
    return found.fetchall()


def contents(folder: Path) -> bytes:
    """All that the files below a folder say, unpacked."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.suffix == ".parquet":
            with duckdb.connect() as connection:
                found.append(str(connection.execute(f"FROM read_parquet('{path}')").fetchall()).encode())
        content = path.read_bytes()
        found.append(gzip.decompress(content) if path.suffix == ".gz" else content)
    return b"\n".join(found)


def run(*arguments: str, code: int = 0, given: str | None = None) -> str:
    result = CliRunner().invoke(app, ["pseudonyms", *arguments], env={"COLUMNS": "300"}, input=given)
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def test_without_a_key_numbers_stay_and_a_warning_says_how_to_change_that(
    feed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put_lines(feed)
    loading._warn_of_clear_values.cache_clear()
    with caplog.at_level(logging.WARNING):
        take()
        take()
    assert rows("SELECT customer_id FROM retail.customers ORDER BY 1") == [("13047",), ("17850",)]
    (said,) = [record.message for record in caplog.records if "in the clear" in record.message]
    assert "retail: customer_id" in said
    assert "lakehouse pseudonyms create-key" in said
    assert "no key" in run("show", "17850", code=2)


def test_with_a_key_no_number_is_stored(feed: Path) -> None:
    put_lines(feed)
    run("create-key")
    assert "there is a key already" in run("create-key", code=2)
    take()
    assert take().rows_received == 0
    assert rows("SELECT count(*), count(DISTINCT customer_id) FROM retail.sale_lines") == [(4, 2)]
    assert rows("SELECT count(*) FROM retail.sale_lines WHERE customer_id IS NULL") == [(1,)]
    assert rows("SELECT row_number, reasons[1] FROM lake.quarantine ORDER BY 1") == [
        (5, "quantity is missing or not a bigint"),
        (6, "the row has 9 fields where the header has 8"),
    ]
    stored = contents(Path(settings().lake))
    assert b"500001" in stored
    assert not [number for number in (b"17850", b"13047", b"99123", b"99124") if number in stored]

    value, pseudonym = run("show", "17850").strip().split(",")
    assert value == "17850"
    assert rows(f"SELECT count(*) FROM retail.sale_lines WHERE customer_id = '{pseudonym}'") == [(2,)]
    assert run("reveal", "-", given=f"{pseudonym}\n").strip() == f"{pseudonym},17850"
    assert "unknown: 1" in run("show", "1", code=4)
    source = described_source("retail")
    assert not rebuild(Lake.open(), source, verify=True).differs
    assert all(check.run(Lake.open(), source, None).passed for check in source.checks if check.blocking)

    assert "Erase 17850" in run("erase", "17850", code=1, given="n\n")
    run("erase", "17850", "--yes")
    assert "unknown" in run("reveal", pseudonym, code=4)
    assert "no person" in run("erase", "17850", "--yes", code=4)
    # What is stored stays, and is nobody's any more.
    assert rows(f"SELECT count(*) FROM retail.sale_lines WHERE customer_id = '{pseudonym}'") == [(2,)]


def test_a_lake_with_clear_numbers_opens_and_is_read_again(feed: Path) -> None:
    put_lines(feed)
    take()
    before = rows("SELECT * EXCLUDE (line_key, customer_id) FROM retail.sale_lines ORDER BY ALL")
    run("create-key")
    assert take().rows_received == 0
    assert rows("SELECT count(*) FROM retail.customers WHERE customer_id = '17850'") == [(1,)]
    take(reread=True)
    assert rows("SELECT * EXCLUDE (line_key, customer_id) FROM retail.sale_lines ORDER BY ALL") == before
    assert rows("SELECT count(*) FROM retail.customers WHERE customer_id LIKE 'pn_%'") == [(2,)]
    assert rows("SELECT count(*) FROM retail.customers") == [(2,)]


def test_a_collection_is_landed_without_numbers(collection: Documents) -> None:
    run("create-key")
    documents = [document(number, Email="someone@example.com") for number in range(12)]
    collection.insert_many([dict(each) for each in documents])
    take_documents()
    collection.update_one({"Quantity": 3}, {"$set": {"CustomerID": 17850}})
    collection.insert_one(document(40, CustomerID="17850"))
    take_documents()
    assert rows("SELECT count(*), count(DISTINCT customer_id) FROM retail.sale_lines") == [(13, 1)]
    stored = contents(Path(settings().lake))
    assert b"536" in stored
    assert b"17850" not in stored
    assert b"someone" not in stored
    collection.drop()
    take_documents()
    collection.insert_many([*(dict(each) for each in documents[:2]), document(40)])
    take_documents()
    assert rows("SELECT count(*) FROM retail.sale_lines") == [(3,)]
