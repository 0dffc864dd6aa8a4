"""Loads of a collection that are killed, with the server, and both at once, while the shop goes on: in the end the lake
has the collection's lines, and a refill of the same lines makes no new version.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from assets_tests.support.patience import PATIENCE_S
from assets_tests.support.servers.process import MissingBinary
from assets_tests.support.servers.secantus import MongoServer
from assets_tests.support.soak import soak_count
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.derive.rebuild import rebuild
from lakehouse.ingest.ledger import ledger_of
from lakehouse.ingest.load import load
from lakehouse.settings import settings
from lakehouse.simulators.shop import Shop

MONTHS = [date(2024, 1, 1), date(2024, 2, 1)]
KILLS = soak_count(3, 25)
LOADER = """
import sys
from datetime import date
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.ingest.load import load
import duckdb, polars, pymongo, deltalake
months = [date(2024, 1, 1), date(2024, 2, 1)]
lake, source = Lake.open(), described_source("retail")
print("ready", flush=True)
load(lake, source.datasets[0], months)
for table in source.tables:
    table.derive(lake, source, months)
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MongoServer]:
    try:
        with MongoServer() as running:
            monkeypatch.setenv("LAKEHOUSE_RETAIL_URL", running.url)
            yield running
    except MissingBinary as missing:
        pytest.skip(str(missing))


def take() -> int:
    lake, source = Lake.open(), described_source("retail")
    loaded = load(lake, source.datasets[0], MONTHS)
    for table in source.tables:
        table.derive(lake, source, MONTHS)
    return loaded.rows_received


def lines() -> Counter[tuple[Any, ...]]:
    found = Lake.open().sql(
        "SELECT invoice_no, stock_code, quantity, (unit_price * 100)::INTEGER, customer_id FROM retail.sale_lines"
    )
    assert found is not None
    return Counter(found.fetchall())


def of_shop(shop: Shop) -> Counter[tuple[Any, ...]]:
    return Counter(
        (line.invoice_no, line.stock_code, line.quantity, line.price, line.customer and str(line.customer))
        for line in shop.lines.values()
    )


def kill_a_load(server: MongoServer, chance: random.Random, number: int) -> None:
    """Kills the loader, the server or both, at some moment of a load; the server is started again."""
    loader = subprocess.Popen([sys.executable, "-c", LOADER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert loader.stdout is not None
    assert loader.stdout.readline() == b"ready\n"
    waited = threading.Event()
    waited.wait(chance.random() * 1.5)
    if number % 3 != 1:
        loader.send_signal(signal.SIGKILL)
    if number % 3 != 0:
        server.kill()
    loader.wait(timeout=PATIENCE_S)
    if number % 3 != 0:
        server.start()


def test_loads_that_are_killed_end_with_the_lines_of_the_shop(server: MongoServer, tmp_path: Path) -> None:
    chance = random.Random(1)
    (settings().home / "lake").mkdir(parents=True)
    shop = Shop(date(2024, 1, 29), date(2024, 2, 4), invoices_a_day=5)
    with MongoClient[dict[str, Any]](server.url) as client:
        collection = client.get_default_database()["customer-transactions"]
        collection.insert_many(shop.documents())
        for number in range(KILLS):
            kill_a_load(server, chance, number)
            shop.work(collection, 8)
        take()
        assert lines() == of_shop(shop)
        entries = ledger_of(Lake.open(), "retail").collect().height
        shop.refill(collection)
        assert take() == 0
        assert ledger_of(Lake.open(), "retail").collect().height == entries
    lake, source = Lake.open(), described_source("retail")
    assert not rebuild(lake, source, verify=True).differs
    assert all(check.run(lake, source, None).passed for check in source.checks if check.blocking)
