"""Listing where news can be in a bucket: the requests follow the change, not the objects that are known."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import obstore
import polars as pl
import pytest

from assets_tests.support.patience import PATIENCE_S
from assets_tests.support.servers.ministack import MinistackS3
from assets_tests.unit.ingest.test_recent import ledger
from lakehouse.ingest import recent
from lakehouse.ingest.bucket import Bucket
from lakehouse.ingest.recent import DayFolders, list_recent

FIRST = date(2020, 1, 1)
BUCKET = "listed"


@contextmanager
def counted(endpoint: str) -> Iterator[tuple[str, list[str]]]:
    """A server before `endpoint` that hands on requests, and the prefixes of the listings among them."""
    prefixes: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            if "list-type" in asked:
                prefixes.append(asked.get("prefix", [""])[0])
            request = urllib.request.Request(f"{endpoint}{self.path}", headers=dict(self.headers))
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                body = answer.read()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *said: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", prefixes
        finally:
            server.shutdown()
            thread.join()


def days(count: int) -> list[date]:
    return [FIRST + timedelta(days=number) for number in range(count)]


@pytest.mark.parametrize("count", [20, 80])
def test_list_recent__asks_for_as_much_whatever_is_known(
    count: int, ministack_s3: MinistackS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = ministack_s3.create_bucket(f"{BUCKET}-{count}")
    store = ministack_s3.store(bucket)
    for day in days(count):
        for hour in range(5):
            obstore.put(store, f"xetra/{day}/{hour}.csv", b"a")
    known = days(count - 1)
    monkeypatch.setattr(recent, "FEW", 0)
    with counted(ministack_s3.endpoint) as (endpoint, prefixes):
        for name, value in (ministack_s3.environment() | {"AWS_ENDPOINT_URL": endpoint}).items():
            monkeypatch.setenv(name, value)
        folders = DayFolders("xetra/", "%Y-%m-%d")
        found = list_recent(Bucket(f"s3://{bucket}"), folders, ledger(known, below="xetra/"), FIRST)
    # The names of the folders, the newest known ones, and the one that isn't known.
    assert len(prefixes) == 1 + 7 + 1
    assert set(found.objects["name"].str.head(16)) == {f"xetra/{day}" for day in days(count)[-8:]}
    assert found.objects.filter(pl.col("name").str.contains(str(days(count)[-1]))).height == 5
