"""A URL of a kind that isn't known is refused by name wherever a place is named, and never taken for a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lakehouse.catalog import source_named
from lakehouse.cli.app import app
from lakehouse.domains.market.bars.config import Report
from lakehouse.errors import SourceError
from lakehouse.ingest.names import Objects
from lakehouse.ingest.object_store import objects_at, store_at
from lakehouse.settings import settings
from lakehouse.urls import fault_of, scheme_of, without_password

PLACES = {"s3": "s3://bucket/prefix"}
UNKNOWN = [
    ("hdfs://name/feed", "hdfs:// is not a kind of place that is known here; use a folder, file:///folder, s3://"),
    ("http://vendor/feed", "http:// is not a kind of place"),
    ("S3://bucket/feed", "S3:// is not a kind of place .*; schemes are written in lower case: s3://"),
    ("s3:/bucket/feed", "s3:/ lacks a slash; write s3://bucket/prefix"),
    ("s3:///feed", "it names no place; write s3://bucket/prefix"),
    ("file://server/feed", "it names no place; write file:///folder"),
    ("s3://key:s3cret@bucket", "it has a password in it"),
]


@pytest.mark.parametrize(
    "path", ["/data/feed", "feed", "~/feed", "./a:b/c", "c:/d", "/data/http://x", "äß:/x", "file:///data/my%20feed"]
)
def test_fault_of__takes_any_folder(path: str) -> None:
    assert fault_of(path, PLACES) is None


def test_scheme_of__tells_a_url_from_a_path() -> None:
    assert [scheme_of(url) for url in ("s3://a/b", "S3://a", "/a/b", "a b://c")] == ["s3", "S3", None, None]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sftp://me:s3cret@host/feed", "sftp://me:***@host/feed"),
        ("sftp://me@host/feed", "sftp://me@host/feed"),
        ("/data/a:b@c", "/data/a:b@c"),
        ("sftp://me:s3/cr/et@host/feed", "sftp://me:***@host/feed"),
        ("sftp://me:s3@cret@host/feed", "sftp://me:***@host/feed"),
        ("sftp://me:s3cret@[::1/feed", "sftp://me:***@[::1/feed"),
        ("sftp://host:2222/a@b", "sftp://host:2222/a@b"),
        ("sftp://me@host:2222/a@b", "sftp://me@host:2222/a@b"),
        ("sftp://[::1]:2222/a@b", "sftp://[::1]:2222/a@b"),
    ],
)
def test_without_password__shows_the_rest(url: str, shown: str) -> None:
    assert without_password(url) == shown
    assert ("password" in str(fault_of(url, {"sftp": "sftp://user@host/folder"}))) == (url != shown)


@pytest.mark.parametrize("url", ["sftp://[::1/x", "sftp://me:s3/cret@host/x", "ftp://host:port/x"])
def test_an_address_that_cannot_be_read_is_refused_without_its_password(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that begins like an IPv6 address ended the command by a traceback."""
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", url)
    settings.cache_clear()
    result = CliRunner().invoke(app, ["update", "xetra"], env={"COLUMNS": "300"})
    assert (result.exit_code, isinstance(result.exception, SystemExit)) == (2, True)
    assert "Traceback" not in result.output
    assert "s3/cret" not in result.output


@pytest.mark.parametrize(("url", "said"), UNKNOWN)
def test_a_source_or_report_at_a_url_of_another_kind_is_refused_by_name(
    url: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for refusing in (
        lambda: objects_at(url),
        lambda: store_at(url),
        lambda: Objects(url=url, pattern="(?P<date>.*)", holds="day"),
        lambda: Report(url=url, key="{session}", columns={}),
    ):
        with pytest.raises(ValueError, match=said):
            refusing()
    with pytest.raises(SourceError, match=said) as refused:
        objects_at(url)
    assert "s3cret" not in str(refused.value)
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", url)
    with pytest.raises(SourceError, match=said):
        source_named("xetra").bars.require_settings()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("variable", ["LAKEHOUSE_XETRA_URL", "LAKEHOUSE_XETRA_REPORT_URL", "LAKEHOUSE_LAKE_URI"])
def test_a_backfill_with_an_unknown_place_reads_nothing(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", str(tmp_path / "feed"))
    monkeypatch.setenv(variable, "hdfs://name/feed")
    settings.cache_clear()
    result = CliRunner().invoke(app, ["backfill", "xetra", "--from", "2024-03-04"], env={"COLUMNS": "200"})
    assert result.exit_code != 0
    assert "hdfs:// is not a kind of place that is known here" in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert not (tmp_path / "lakehouse" / "lake").exists()
