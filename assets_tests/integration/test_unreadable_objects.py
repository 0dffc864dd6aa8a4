"""An object that the store keeps back fails alone, with the reason in the ledger; a key that no client of ours can
express hides no other. A store that refuses everything is still a fault of the store.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from datetime import date
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import botocore.session
import obstore
import pytest

from assets_tests.reference import HEADER, csv_line
from assets_tests.servers.ministack import MinistackS3
from lakehouse.lake.lake import Lake
from lakehouse.pipeline.load import Loaded, load
from lakehouse.sources.config import source_named
from lakehouse.sources.errors import SourceUnavailable
from lakehouse.sources.landing import Landing
from lakehouse.sources.objects import objects_at, store_at

SESSION = date(2017, 7, 7)
HOURS = ("08", "09", "10")
NAMES = [f"{SESSION}/{SESSION}_BINS_XETR{hour}.csv" for hour in HOURS]


def body(hour: str) -> bytes:
    row = ("DE0005190003", "BMW", "BMW", "Common stock", "EUR", "1", str(SESSION), f"{hour}:00",
           "80", "80", "80", "80", "100", "1")  # fmt: skip
    return f"{','.join(HEADER)}\n{csv_line(row)}\n".encode()


class RefusingBucket(ThreadingHTTPServer):
    """S3 as far as it is listed and read, which answers a GET of some keys with a status and a code."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.objects = {f"feed/{name}": body(hour) for name, hour in zip(NAMES, HOURS, strict=True)}
        self.refused: dict[str, tuple[int, str]] = {}


class _Answers(BaseHTTPRequestHandler):
    server: RefusingBucket

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        key = address.path.removeprefix("/bucket").lstrip("/")
        if "list-type" in parse_qs(address.query):
            entries = "".join(
                f"<Contents><Key>{name}</Key><LastModified>2017-07-07T18:00:00.000Z</LastModified>"
                f'<ETag>"{name[-6:-4]}"</ETag><Size>{len(content)}</Size></Contents>'
                for name, content in self.server.objects.items()
            )
            listing = f"<IsTruncated>false</IsTruncated><KeyCount>{len(self.server.objects)}</KeyCount>{entries}"
            self._answer(200, f"<ListBucketResult>{listing}</ListBucketResult>".encode(), "list")
        elif key in self.server.refused:
            status, code = self.server.refused[key]
            self._answer(status, f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode(), "error")
        else:
            self._answer(200, self.server.objects[key], key[-6:-4])

    def _answer(self, status: int, content: bytes, tag: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{tag}"')
        self.send_header("Last-Modified", formatdate(1_499_450_400, usegmt=True))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[RefusingBucket]:
    with RefusingBucket() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        for name, value in {
            "LAKEHOUSE_XETRA_URL": "s3://bucket/feed",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }.items():
            monkeypatch.setenv(name, value)
        yield server
        server.shutdown()


def load_session() -> tuple[Lake, Loaded]:
    config, lake = source_named("xetra"), Lake.open()
    return lake, load(lake, config, config.bars, [SESSION])


def test_an_object_that_s3_refuses_fails_alone_and_is_taken_once_it_can_be_read(bucket: RefusingBucket) -> None:
    bucket.refused = {f"feed/{NAMES[0]}": (403, "AccessDenied"), f"feed/{NAMES[1]}": (403, "InvalidObjectState")}
    lake, result = load_session()
    assert result.objects == {"loaded": 1, "empty": 0, "failed": 2}
    wanted = dict(zip(NAMES[:2], ("AccessDenied", "InvalidObjectState"), strict=True))
    for name, code in wanted.items():
        assert result.errors[name].startswith(f"{name} can't be read: the store answers {code}; have it made readable")
    failed = lake.sql("SELECT object, error FROM lake.ingest_ledger WHERE status = 'failed'")
    assert dict(failed.fetchall()) == result.errors  # type: ignore[union-attr]
    bucket.refused = {}
    _, again = load_session()
    assert again.objects == {"loaded": 2, "empty": 0, "failed": 0}


def test_an_object_that_is_removed_meanwhile_stops_no_other(bucket: RefusingBucket) -> None:
    bucket.refused = {f"feed/{NAMES[0]}": (404, "NoSuchKey")}
    _, result = load_session()
    assert result.objects == {"loaded": 2, "empty": 0, "failed": 0}


@pytest.mark.parametrize(
    ("status", "code"), [(403, "SignatureDoesNotMatch"), (403, "RequestTimeTooSkewed"), (400, "ExpiredToken")]
)
def test_refused_credentials_are_a_fault_of_the_store(status: int, code: str, bucket: RefusingBucket) -> None:
    bucket.refused = {f"feed/{name}": (status, code) for name in NAMES}
    with pytest.raises(SourceUnavailable, match=code):
        load_session()
    assert Lake.open().table("ingest_ledger").to_polars().is_empty()


def test_keys_that_are_no_names_hide_no_object(ministack_s3: MinistackS3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ministack_s3.environment().items():
        monkeypatch.setenv(name, value)
    name = ministack_s3.create_bucket(f"odd-{uuid.uuid4().hex}")
    store = ministack_s3.store(name)
    for key in NAMES:
        obstore.put(store, f"feed/{key}", b"content")
    source = objects_at(f"s3://{name}/feed")
    before = source.list().objects.sort("name")
    assert before["name"].to_list() == NAMES
    client = botocore.session.get_session().create_client("s3", region_name="us-east-1")
    for key in ("notes\ta.txt", "a//b", "./c", f"{SESSION}/", "x/../y"):
        client.put_object(Bucket=name, Key=f"feed/{key}", Body=b"" if key.endswith("/") else b"1")
    after = source.list()
    assert after.objects.sort("name").equals(before)
    odd = "(an empty part, `.` or `..` in its name)"
    assert sorted(map(str, after.passed_over)) == [
        f"./c {odd}",
        f"a//b {odd}",
        r"notes\ta.txt (control characters in its name)",
        f"x/../y {odd}",
    ]


def test_what_marks_a_folder_is_no_object(ministack_s3: MinistackS3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ministack_s3.environment().items():
        monkeypatch.setenv(name, value)
    name = ministack_s3.create_bucket(f"markers-{uuid.uuid4().hex}")
    client = botocore.session.get_session().create_client("s3", region_name="us-east-1")
    for key in ("feed/", "feed/2017/", "feed/2017/07/a.csv", "feed/empty.csv"):
        client.put_object(Bucket=name, Key=key, Body=b"")
    assert sorted(objects_at(f"s3://{name}/feed").list().objects["name"]) == ["2017/07/a.csv", "empty.csv"]


def test_what_is_no_answer_in_the_landing_is_passed_over(tmp_path: Path) -> None:
    landing = Landing(str(tmp_path), "vendor")
    name = "bars/2020-11/adjusted=false/AAPL"
    obstore.put(store_at(landing.url), f"{name}/20201201T031500.000000Z-0123456789abcdef.csv.gz", b"packed")
    for foreign in ("notes.txt", "20201399T031500.000000Z-0123456789abcdef.csv.gz", "a\tb"):
        (Path(landing.url) / name / foreign).touch()
    listed = landing.list(["bars/2020-11", "bars/2020-12"])
    assert listed.objects["name"].to_list() == [name]
    assert [entry.name for entry in listed.passed_over] == [f"{name}/a\tb"]
