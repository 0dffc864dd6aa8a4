"""A source and a report on servers of their own: each with its endpoint and its keys, beside a lake with others."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import botocore.session
import obstore
import polars as pl
import pytest

from assets_tests.support.described import resolved
from assets_tests.support.folder_source import DAY, FolderSource, bar_line
from assets_tests.support.servers.ceph import CephS3
from assets_tests.support.servers.ministack import MinistackS3
from assets_tests.support.servers.s3 import REGION, S3Server
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.domains.market.bars.report import export_report
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.errors import ObjectReplaced, SourceUnavailable
from lakehouse.ingest.access import Access
from lakehouse.ingest.load import load
from lakehouse.ingest.object_store import objects_at
from lakehouse.settings import settings

NAME = f"{DAY}/{DAY}_BINS_XETR08.csv"


def keys_of(server: S3Server, name: str, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What YAML says of a server's keys, which are in variables of that name."""
    patch.setenv(f"{name}_KEY", server.access_key)
    patch.setenv(f"{name}_SECRET", server.secret_key)
    return {
        "endpoint": server.endpoint,
        "region": REGION,
        "credentials": {"access_key_id": f"{name}_KEY", "secret_access_key": f"{name}_SECRET"},
    }


def config_with(source: str, access: dict[str, Any], report: str | None = None, at_report: Any = None) -> BarSource:
    yaml = source_named("xetra").config.model_dump(mode="json", exclude_defaults=True)
    yaml["bars"]["objects"] |= {"url": source, "access": access}
    if report is not None:
        yaml["report"] |= {"url": report, "access": at_report}
    return resolved(SourceConfig.model_validate(yaml))


@pytest.fixture
def feed(ceph_s3: CephS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket on a server that refuses wrong keys, with one object."""
    with monkeypatch.context() as patch:
        path = FolderSource.below(tmp_path, patch).put(bar_line(0, 10.0), bar_line(1, 11.0))
    bucket = ceph_s3.create_bucket(f"feed-{uuid.uuid4().hex}")
    obstore.put(ceph_s3.store(bucket), f"feed/{NAME}", path.read_bytes())
    return f"s3://{bucket}/feed"


def reports(server: S3Server, bucket: str, prefix: str | None = None) -> dict[str, list[float]]:
    store = server.store(bucket)
    return {
        entry["path"]: pl.read_parquet(bytes(obstore.get(store, entry["path"]).bytes()))["closing_price"].to_list()
        for entry in obstore.list(store, prefix).collect()
    }


def export(source: BarSource) -> None:
    """The day's way from the source to the report."""
    settings.cache_clear()
    lake = Lake.open()
    assert load(lake, source.bars, [DAY]).objects["loaded"] == 1
    derive_bars(lake, source, [DAY])
    derive_daily_bars(lake, source, [DAY])
    export_report(lake, source, [DAY])


def test_source_and_report_have_servers_of_different_secrets(
    feed: str, ceph_s3: CephS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What YAML names replaces what the environment says, a token of another account included.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "of-another-account")
    with CephS3() as other:
        bucket = other.create_bucket("reports")
        at_source, at_report = keys_of(ceph_s3, "VENDOR", monkeypatch), keys_of(other, "READER", monkeypatch)
        export(config_with(feed, at_source, f"s3://{bucket}/out", at_report))
        assert reports(other, bucket) == {f"out/xetra_daily_report_{DAY}.parquet": [11.0]}


def test_a_lake_and_a_report_stay_where_the_environment_points(
    feed: str, ceph_s3: CephS3, ministack_s3: MinistackS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = ministack_s3.create_bucket(f"lake-{uuid.uuid4().hex}")
    for name, value in ministack_s3.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LAKEHOUSE_LAKE_URI", f"s3://{bucket}/lake")
    export(config_with(feed, keys_of(ceph_s3, "VENDOR", monkeypatch), f"s3://{bucket}/out"))
    stored = {entry["path"].split("/")[0] for entry in obstore.list(ministack_s3.store(bucket)).collect()}
    assert stored == {"lake", "out"}


def test_a_public_bucket_is_read_without_the_keys_of_the_environment(
    feed: str, ceph_s3: CephS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = feed.split("/")[2]
    client = botocore.session.get_session().create_client(
        "s3",
        region_name=REGION,
        endpoint_url=ceph_s3.endpoint,
        aws_access_key_id=ceph_s3.access_key,
        aws_secret_access_key=ceph_s3.secret_key,
    )
    client.put_bucket_acl(Bucket=bucket, ACL="public-read")
    client.put_object_acl(Bucket=bucket, Key=f"feed/{NAME}", ACL="public-read")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-another-account")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-another-account")
    place = Access(endpoint=ceph_s3.endpoint, region=REGION)
    with pytest.raises(SourceUnavailable, match="can't be listed"):
        objects_at(feed, place.resolve(settings().secret)).list()

    source = objects_at(feed, place.model_copy(update={"anonymous": True}).resolve(settings().secret))
    (row,) = source.list().objects.to_dicts()
    assert source.fetch(row["path"], row["tag"]).read().startswith(b"ISIN,")
    # A key that obstore can't express is listed by another client, with the same access.
    client.put_object(Bucket=bucket, Key="feed/a//b", Body=b"1")
    listed = source.list()
    assert listed.objects["name"].to_list() == [NAME]
    assert [entry.name for entry in listed.passed_over] == ["a//b"]


def test_keys_of_an_access_list_what_obstore_can_not_express(
    feed: str, ceph_s3: CephS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    obstore_key, bucket = "feed/a//b", feed.split("/")[2]
    keys = keys_of(ceph_s3, "VENDOR", monkeypatch)
    client = botocore.session.get_session().create_client(
        "s3",
        region_name=REGION,
        endpoint_url=ceph_s3.endpoint,
        aws_access_key_id=ceph_s3.access_key,
        aws_secret_access_key=ceph_s3.secret_key,
    )
    client.put_object(Bucket=bucket, Key=obstore_key, Body=b"1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-another-account")
    listed = objects_at(feed, Access.model_validate(keys).resolve(settings().secret)).list()
    assert listed.objects["name"].to_list() == [NAME]


def test_a_wrong_key_is_refused_in_words_that_do_not_show_it(
    feed: str, ceph_s3: CephS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = Access.model_validate(keys_of(ceph_s3, "VENDOR", monkeypatch))
    monkeypatch.setenv("VENDOR_SECRET", "wr0ng-s3cret")
    with pytest.raises(SourceUnavailable, match="SignatureDoesNotMatch") as refused:
        objects_at(feed, access.resolve(settings().secret)).list()
    assert "wr0ng" not in str(refused.value)


def test_google_cloud_storage_is_read_and_written(
    ministack_s3: MinistackS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Google's XML interface, which obstore speaks to it, is S3's without its signatures."""
    bucket = ministack_s3.create_bucket(f"google-{uuid.uuid4().hex}")
    feed = FolderSource.below(tmp_path, monkeypatch)
    obstore.put(ministack_s3.store(bucket), f"feed/{NAME}", feed.put(bar_line(0, 10.0)).read_bytes())
    # A service account that asks nobody for a token, as Google's emulators take it.
    account = {"gcs_base_url": ministack_s3.endpoint, "disable_oauth": True}
    account |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    (tmp_path / "account.json").write_text(json.dumps(account))
    monkeypatch.setenv("VENDOR_ACCOUNT", json.dumps(account))
    by_file = {"endpoint": ministack_s3.endpoint, "key_file": str(tmp_path / "account.json")}
    by_variable = {"endpoint": ministack_s3.endpoint, "credentials": {"service_account_key": "VENDOR_ACCOUNT"}}
    monkeypatch.delenv("LAKEHOUSE_XETRA_URL")

    export(config_with(f"gs://{bucket}/feed", by_file, f"gs://{bucket}/out", by_variable))

    assert reports(ministack_s3, bucket, "out") == {f"out/xetra_daily_report_{DAY}.parquet": [10.0]}
    source = objects_at(f"gs://{bucket}/feed", Access.model_validate(by_file).resolve(settings().secret))
    (row,) = source.list().objects.to_dicts()
    obstore.put(ministack_s3.store(bucket), f"feed/{NAME}", b"another")
    assert not source.holds(row["path"], row["tag"])
    with pytest.raises(ObjectReplaced):
        source.fetch(row["path"], row["tag"])
    with pytest.raises(SourceUnavailable, match="NoSuchBucket"):
        objects_at("gs://no-such-bucket", Access.model_validate(by_file).resolve(settings().secret)).list()
