"""The demo's shop: a month of invoice lines as daily files, and documents on a file server.

The file server is a thread of this process, over a folder of the demo's home: `lakehouse dev --demo` serves it again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from rich.console import Console

from lakehouse.api import Lake
from lakehouse.ingest.file_server import FileServer
from lakehouse.ingest.pseudonyms import VARIABLE
from lakehouse.ingest.secret_files import kept_once
from lakehouse.local_dagster.backfill import Outcome, backfill_source
from lakehouse.local_dagster.display import Display
from lakehouse.settings import settings
from lakehouse.simulators.document_server import DocumentServer
from lakehouse.simulators.pdf_files import pdf
from lakehouse.simulators.shop import Shop

SHOP, DOCUMENTS = "retail", "documents"
_QUESTION = "an item that arrives damaged"
_TERMS = (
    "Terms of sale. Prices are those on the day of the order. Carriage is charged by weight and country.",
    "Returns. An item that arrives damaged is replaced, or its price is refunded within fourteen days. Send a picture.",
)
_FILES = {
    "terms of sale.pdf": pdf(_TERMS),
    "delivery.pdf": pdf(["Delivery takes three working days in the United Kingdom and a week on the continent."]),
    "wholesale.pdf": pdf(["Discounts for trade customers begin at twelve units of an item.", "A refund is a credit."]),
    "signed contract.pdf": pdf(["", ""]),
    "price list.pdf": pdf(["Prices of lamps, clocks and baskets."])[:200],
}
"""Five documents: the fourth is a scan, and the last one was cut while it was sent."""


def use_shop(home: Path) -> None:
    """Points this process at the shop's files, and lets it store pseudonyms of persons. Their key is a file of the
    home, so that every later command on it has the same.
    """
    os.environ["LAKEHOUSE_RETAIL_URL"] = str(home / "shop")
    os.environ.pop(VARIABLE, None)
    kept_once(home / "secrets" / VARIABLE, lambda: b"the key of the demonstration")


@contextmanager
def file_server(home: Path) -> Iterator[None]:
    """Serves the demo's documents in the block, and points this process and its children at them."""
    with DocumentServer(home / "files") as server:
        os.environ["LAKEHOUSE_DOCUMENTS_URL"] = server.url
        settings.cache_clear()
        yield


def play_shop(console: Console, display: Display, home: Path, first: date, last: date, seed: int) -> list[Outcome]:
    """Publishes a month of lines and a few documents, and loads both."""
    shop = Shop(first, last, seed=seed)
    for day in shop.days:
        shop.write_day(home / "shop", day)
    console.print(
        f"\nA shop wrote {len(shop.lines):,} invoice lines of {len(shop.days)} days, and its file server has "
        f"{len(_FILES)} documents",
        highlight=False,
    )
    with file_server(home):
        server = FileServer(os.environ["LAKEHOUSE_DOCUMENTS_URL"])
        for name, content in _FILES.items():
            server.upload(name, content)
        return [backfill_source(source, first, last, display) for source in (SHOP, DOCUMENTS)]


def print_shop(console: Console) -> None:
    """Prints what sold best, the documents that can't be read, and what answers a question."""
    console.print(f"\n[bold]{SHOP}[/]: what sold best, by money", highlight=False)
    for text, quantity, total in _rows(
        """
        SELECT any_value(description), sum(quantity)::BIGINT, sum(amount) FROM retail.sale_lines
        GROUP BY stock_code ORDER BY 3 DESC, 1 LIMIT 3
        """
    ):
        console.print(f"  {text:<24} {quantity:>6,} units  {total:>10,.2f}", highlight=False)
    console.print(f"[bold]{DOCUMENTS}[/]: '{_QUESTION}' is answered by", highlight=False)
    for name, page, score in _rows(f"SELECT name, page, score FROM documents.search('{_QUESTION}', k := 2)"):
        console.print(f"  {name}, page {page}, with a score of {score:.2f}", highlight=False)
    for (reason,) in _rows("SELECT reason FROM documents.files WHERE status = 'failed' ORDER BY 1"):
        console.print(f"  [yellow]not read[/]  {reason}", highlight=False, soft_wrap=True)


def _rows(query: str) -> list[tuple]:
    found = Lake.open().sql(query)
    assert found is not None
    return found.fetchall()
