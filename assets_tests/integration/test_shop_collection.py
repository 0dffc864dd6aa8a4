"""A shop's lines in a real server of MongoDB's wire protocol: the lake equals the collection after writes, edits,
deletes, kills, and a refill.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection
from typer.testing import CliRunner

from assets_tests.support.servers.process import MissingBinary
from assets_tests.support.servers.secantus import MongoServer
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.cli.app import app
from lakehouse.derive.rebuild import rebuild
from lakehouse.derive.source import Finding
from lakehouse.errors import SourceUnavailable
from lakehouse.ingest import mongo
from lakehouse.ingest.ledger import ledger_of
from lakehouse.ingest.load import LoadResult, load
from lakehouse.simulators.document_server import DocumentServer
from lakehouse.simulators.pdf_files import pdf
from lakehouse.simulators.shop import Shop

MONTHS = [date(2024, 1, 1), date(2024, 2, 1)]
Documents = Collection[dict[str, Any]]


@pytest.fixture(scope="module")
def server() -> Iterator[MongoServer]:
    try:
        with MongoServer() as running:
            yield running
    except MissingBinary as missing:
        pytest.skip(str(missing))


@pytest.fixture
def collection(server: MongoServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Documents]:
    monkeypatch.setenv("LAKEHOUSE_RETAIL_URL", server.url)
    with MongoClient[dict[str, Any]](server.url) as client:
        found = client.get_default_database()["customer-transactions"]
        found.drop()
        yield found


def document(number: int, **values: Any) -> dict[str, Any]:
    """A document as the shop writes it: numbers of several types, NaN for what is missing, a date as text."""
    return {
        "InvoiceNo": 536_000 + number if number % 2 else str(536_000 + number),
        "StockCode": f"2{number % 5}",
        "Description": "LAMP" if number % 7 else float("nan"),
        "Quantity": number + 1,
        "InvoiceDate": f"{1 + number % 2}/{1 + number % 3}/2024 8:26",
        "UnitPrice": 2.55,
        "CustomerID": 17850.0 if number % 3 else float("nan"),
        "Country": "France",
    } | values


def take() -> LoadResult:
    lake, source = Lake.open(), described_source("retail")
    dataset = source.datasets[0]
    # Documents without a day are in the first partition.
    months = [dataset.partitioning.first, date(2024, 1, 1), date(2024, 2, 1)]
    loaded = load(lake, dataset, months)
    for table in source.tables:
        table.derive(lake, source, months)
    return loaded


def lines() -> Counter[tuple[Any, ...]]:
    found = Lake.open().sql(
        """
        SELECT invoice_no, stock_code, description, quantity, strftime(invoiced_at, '%-m/%-d/%Y %-H:%M'), unit_price,
            customer_id, country FROM retail.sale_lines
        """
    )
    assert found is not None
    return Counter(found.fetchall())


def as_lines(documents: Documents) -> Counter[tuple[Any, ...]]:
    def missing(value: object) -> bool:
        return isinstance(value, float) and value != value

    return Counter(
        (
            *(str(each["InvoiceNo"]), each["StockCode"]),
            None if missing(each["Description"]) else each["Description"],
            *(each["Quantity"], each["InvoiceDate"], Decimal(str(each["UnitPrice"]))),
            None if missing(each["CustomerID"]) else str(int(each["CustomerID"])),
            each["Country"],
        )
        for each in documents.find()
    )


def test_writes_edits_and_deletes_reach_the_lake(collection: Documents) -> None:
    collection.insert_many([document(number) for number in range(20)])
    assert take().rows_received == 20
    assert lines() == as_lines(collection)
    assert take().rows_received == 0

    collection.update_one({"Quantity": 3}, {"$set": {"UnitPrice": 9.99}})
    collection.update_one({"Quantity": 5}, {"$set": {"InvoiceDate": "2/28/2024 9:01"}})
    collection.delete_one({"Quantity": 6})
    collection.insert_one(document(30))
    collection.insert_one(document(30))
    take()
    assert lines() == as_lines(collection)
    assert sum(lines().values()) == 21
    collection.delete_many({})
    take()
    assert not lines()
    source = described_source("retail")
    lake = Lake.open()
    assert not rebuild(lake, source, verify=True).differs
    assert all(check.run(lake, source, None).passed for check in source.checks if check.blocking)


def test_a_refill_with_the_same_lines_changes_nothing(collection: Documents) -> None:
    documents = [document(number) for number in range(12)]
    collection.insert_many([dict(each) for each in documents])
    take()
    before = ledger_of(Lake.open(), "retail").collect().height
    collection.drop()
    # Nothing is withdrawn while the collection is away.
    assert take().rows_received == 0
    assert sum(lines().values()) == 12
    collection.insert_many([dict(each) for each in reversed(documents)])
    assert take().rows_received == 0
    assert ledger_of(Lake.open(), "retail").collect().height == before
    # The new identifiers are known: a deletion by one of them counts.
    collection.delete_one({"Quantity": 4})
    take()
    assert lines() == as_lines(collection)


def test_a_document_without_a_day_or_price_is_quarantined(collection: Documents) -> None:
    collection.insert_many(
        [document(1), document(2, InvoiceDate="13/13/2024 8:26"), document(3, UnitPrice=float("nan"))]
    )
    loaded = take()
    assert (loaded.rows_received, loaded.rows_quarantined) == (3, 2)


def test_writers_go_on_during_the_snapshot_and_the_server_is_killed(server: MongoServer, collection: Documents) -> None:
    collection.insert_many([document(number) for number in range(400)])
    stop = threading.Event()

    def write() -> None:
        with MongoClient[dict[str, Any]](server.url) as client:
            own = client.get_default_database()["customer-transactions"]
            for number in range(400, 700):
                if stop.is_set():
                    return
                own.insert_one(document(number))
                own.delete_one({"Quantity": number - 350})
                own.update_one({"Quantity": number - 200}, {"$set": {"Country": f"Country {number % 4}"}})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            take()
    finally:
        stop.set()
        writer.join()
    server.kill()
    with pytest.raises(SourceUnavailable):
        take()
    server.start()
    take()
    assert lines() == as_lines(collection)


def run(*arguments: str, code: int) -> str:
    result = CliRunner().invoke(app, ["retail", *arguments], env={"COLUMNS": "300"})
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def test_seed__fills_the_collection_and_the_file_server(
    collection: Documents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, shop = tmp_path / "files", Shop(date(2024, 1, 30), date(2024, 2, 2))
    assert "nor PDF files" in run("seed", "--from", str(tmp_path), code=2)
    for day in shop.days:
        shop.write_day(folder, day)
    (folder / "terms.pdf").write_bytes(pdf(["refund of a lamp"]))
    assert "set LAKEHOUSE_DOCUMENTS_URL" in run("seed", "--from", str(folder), "--replace", code=2)
    with DocumentServer(tmp_path / "served") as server:
        monkeypatch.setenv("LAKEHOUSE_DOCUMENTS_URL", server.url)
        assert "add --replace" in run("seed", "--from", str(folder), code=2)
        assert f"{len(shop.lines):,} documents of 4 files" in run("seed", "--from", str(folder), "--replace", code=0)
        assert server.names == ["terms.pdf"]
    take()
    wanted = Counter((line.invoice_no, line.stock_code, line.quantity, line.price) for line in shop.lines.values())
    stored = "SELECT invoice_no, stock_code, quantity, (unit_price * 100)::INTEGER FROM retail.sale_lines"
    found = Lake.open().sql(stored)
    assert found is not None
    assert Counter(found.fetchall()) == wanted


def test_a_shop_at_work_is_followed(collection: Documents) -> None:
    shop = Shop(date(2024, 1, 29), date(2024, 2, 4), invoices_a_day=4)
    collection.insert_many(shop.documents())
    for _ in range(3):
        take()
        shop.work(collection, 12)
    take()
    assert lines() == as_lines(collection)
    assert sum(lines().values()) == len(shop.lines)
    entries = ledger_of(Lake.open(), "retail").collect().height
    shop.refill(collection)
    assert take().rows_received == 0
    assert ledger_of(Lake.open(), "retail").collect().height == entries
    assert lines() == as_lines(collection)


def test_status_and_checks_tell_how_the_collection_is_read(
    collection: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    def status() -> str:
        return " ".join(CliRunner().invoke(app, ["status"], env={"COLUMNS": "300"}).output.split())

    def finding(name: str) -> Finding:
        source = described_source("retail")
        return next(each for each in source.checks if each.name == name).run(Lake.open(), source, MONTHS)

    assert finding("types_steady").passed
    collection.insert_many([document(number) for number in range(10)])
    take()
    assert finding("types_steady").passed
    assert finding("changes_arrive_in_time").passed
    assert "by its change stream" in status()
    assert "in the clear" in status()

    collection.insert_one(document(11, Quantity="twelve", UnitPrice=3))
    take()
    (drift,) = finding("types_steady").rows
    assert drift == {"member": "Quantity", "types": ["number", "text"], "documents": [10, 1]}
    assert "quantity is missing or not a bigint" in status()
    changed_at = datetime.now(UTC) - timedelta(hours=25, minutes=1)
    monkeypatch.setattr(mongo, "_moment_of", lambda event: changed_at)
    collection.delete_one({"Quantity": "twelve"})
    take()
    assert finding("types_steady").passed
    assert "waited for 1 day, 1:01" in finding("changes_arrive_in_time").summary
