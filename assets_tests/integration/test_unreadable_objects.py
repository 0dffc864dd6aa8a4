"""An object that the store keeps back fails alone, with the reason in the ledger; a key that no client of ours can
express hides no other. A store that refuses everything is still a fault of the store.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import botocore.session
import dagster as dg
import obstore
import polars as pl
import pytest

from assets_tests.support.exchange_lake import evaluated
from assets_tests.support.reference import HEADER, csv_line
from assets_tests.support.servers.ministack import MinistackS3
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.components.sources import sensor
from lakehouse.components.sources.run_tags import RANGE_END_TAG, RANGE_START_TAG
from lakehouse.errors import SourceUnavailable
from lakehouse.ingest import withheld
from lakehouse.ingest.discover import store_of
from lakehouse.ingest.landing import Landing
from lakehouse.ingest.ledger import ledger_of
from lakehouse.ingest.load import LoadResult, load
from lakehouse.ingest.object_store import objects_at, store_at
from lakehouse.ingest.withheld import Asking, readable_again

SESSION = date(2017, 7, 7)
HOURS = ("08", "09", "10")
NAMES = [f"{SESSION}/{SESSION}_BINS_XETR{hour}.csv" for hour in HOURS]


def body(hour: str) -> bytes:
    row = ("DE0005190003", "BMW", "BMW", "Common stock", "EUR", "1", str(SESSION), f"{hour}:00",
           "80", "80", "80", "80", "100", "1")  # fmt: skip
    return f"{','.join(HEADER)}\n{csv_line(row)}\n".encode()


class RefusingBucket(ThreadingHTTPServer):
    """S3 as far as it is listed and read, without HEAD, which answers a GET of some keys with a status and a code."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.objects = {f"feed/{name}": body(hour) for name, hour in zip(NAMES, HOURS, strict=True)}
        self.refused: dict[str, tuple[int, str]] = {}
        self.refusals = 0


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
            self.server.refusals += 1
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


def load_session() -> tuple[Lake, LoadResult]:
    config, lake = source_named("xetra"), Lake.open()
    return lake, load(lake, config.bars, [SESSION])


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


def failed_at() -> datetime:
    moment = Lake.open().table("ingest_ledger").to_polars().filter(pl.col("is_withheld"))["ingested_at"].max()
    assert isinstance(moment, datetime)
    return moment


def test_the_sensor_asks_for_an_object_that_became_readable_in_the_same_version(
    bucket: RefusingBucket, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backfill took it, the sensor did not see it; one that stays forbidden asks for no run."""
    (first,) = evaluated(instance).run_requests or []
    bucket.refused = {f"feed/{NAMES[0]}": (403, "AccessDenied")}
    load_session()
    since, cursor, asked = failed_at(), None, []
    for minutes in (0.5, 1.5, 1.9, 2.1, 3.9, 4.1):
        before = bucket.refusals
        moment = since + timedelta(minutes=minutes)
        monkeypatch.setattr(sensor, "_now", lambda moment=moment: moment)
        found = evaluated(instance, cursor)
        assert not found.run_requests
        assert str(found.skip_message).startswith("no new or changed objects")
        cursor = found.cursor
        asked.append(bucket.refusals - before)
    assert asked == [0, 1, 0, 1, 0, 1]

    bucket.refused = {}
    assert not evaluated(instance, cursor).run_requests
    monkeypatch.setattr(sensor, "_now", lambda: since + timedelta(minutes=9))
    found = evaluated(instance, cursor)
    (request,) = found.run_requests or []
    assert request.tags[RANGE_START_TAG] == request.tags[RANGE_END_TAG] == str(SESSION)
    # Dagster launches a request of a known key no second time.
    assert request.run_key != first.run_key
    assert [one.run_key for one in evaluated(instance, cursor).run_requests or []] == [request.run_key]
    assert not evaluated(instance, found.cursor).run_requests
    _, loaded = load_session()
    assert loaded.objects == {"loaded": 1, "empty": 0, "failed": 0}
    assert not evaluated(instance, None).run_requests


def test_an_object_that_stays_forbidden_is_asked_for_once_a_day(bucket: RefusingBucket) -> None:
    bucket.refused = {f"feed/{name}": (403, "InvalidObjectState") for name in NAMES}
    lake, _ = load_session()
    since, before = failed_at(), bucket.refusals
    ticks = [since + timedelta(minutes=10 * number) for number in range(1, 7 * 144)]
    store, ledger = store_of(lake, source_named("xetra").bars), ledger_of(lake, "xetra").collect().lazy()
    listed, last = store.list().objects, None
    for moment in ticks:
        assert readable_again(store, listed, ledger, Asking(last, moment)).is_empty()
        last = moment
    # Of a week: the minutes 1 to 8 at once, 16 to 1,024, and each day.
    assert bucket.refusals - before == len(NAMES) * (1 + 7 + 6)


def test_an_object_that_failed_by_a_clock_that_was_ahead_is_asked_for_before_that_moment(
    bucket: RefusingBucket,
) -> None:
    bucket.refused = {f"feed/{NAMES[0]}": (403, "AccessDenied")}
    lake, _ = load_session()
    now, before = failed_at() - timedelta(days=9, hours=1), bucket.refusals
    store, ledger = store_of(lake, source_named("xetra").bars), ledger_of(lake, "xetra")
    for hours in (0, 2, 26):
        asking = Asking(None if hours == 0 else now, now + timedelta(hours=hours))
        assert readable_again(store, store.list().objects, ledger, asking).is_empty()
        now += timedelta(hours=hours)
    assert bucket.refusals - before == 3


def test_of_very_many_objects_kept_back_some_are_asked_for_at_a_time(
    bucket: RefusingBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withheld, "_MOST", 2)
    bucket.refused = {f"feed/{name}": (403, "AccessDenied") for name in NAMES}
    lake, _ = load_session()
    before, listed = bucket.refusals, store_of(lake, source_named("xetra").bars)
    asking = Asking(None, failed_at() + timedelta(minutes=1))
    assert readable_again(listed, listed.list().objects, ledger_of(lake, "xetra"), asking).is_empty()
    assert bucket.refusals - before == 2


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
