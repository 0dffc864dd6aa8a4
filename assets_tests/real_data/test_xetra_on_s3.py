"""One switch, with the exchange's own files: Ceph's gateway holds what folders hold (source, lake, marts, reports)."""

from __future__ import annotations

import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import obstore
import polars as pl
from polars.testing import assert_frame_equal

from assets_tests.support.lakes import MARTS, TABLES, Lakehouse
from assets_tests.support.servers.ceph import CephS3
from assets_tests.support.writers import load_and_derive
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars.report import export_report
from lakehouse.settings import settings
from lakehouse.warehouse.publish import publish

# A Saturday of test bars between a short session and two full ones.
DAYS = ("2017-06-30", "2017-07-01", "2017-07-03", "2017-07-04")
SESSIONS = [date.fromisoformat(DAYS[place]) for place in (0, 2, 3)]
BACKFILL = ("backfill", "xetra", "--from", DAYS[0], "--to", DAYS[-1])


def test_xetra_on_ceph_is_xetra_in_folders(ceph_s3: CephS3, shared_data: Path, tmp_path: Path) -> None:
    bucket = ceph_s3.create_bucket(f"xetra-{uuid.uuid4().hex}")
    store = ceph_s3.store(bucket)
    feed = tmp_path / "feed"
    feed.mkdir()
    for day in DAYS:
        shutil.copytree(shared_data / "xetra_pds" / day, feed / day)
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda path: obstore.put(store, f"feed/{path.relative_to(feed)}", path.read_bytes()), feed.glob("*/*")
            )
        )

    def content() -> dict[str, str | None]:
        prefixes = ("lake", "reports")
        return {found["path"]: found["e_tag"] for prefix in prefixes for found in obstore.list(store, prefix).collect()}

    folders = Lakehouse(tmp_path / "folders", {"LAKEHOUSE_XETRA_URL": str(feed)})
    places = {"LAKEHOUSE_XETRA_URL": "feed", "LAKEHOUSE_LAKE_URI": "lake", "LAKEHOUSE_XETRA_REPORT_URL": "reports"}
    s3 = Lakehouse(
        tmp_path / "s3", {**ceph_s3.environment(), **{name: f"s3://{bucket}/{place}" for name, place in places.items()}}
    )

    with folders.opened() as lake:
        load_and_derive(SESSIONS)
        export_report(lake, source_named("xetra"), SESSIONS)
        publish(settings())
    s3.succeed(*BACKFILL)

    expected = folders.rows(*TABLES, *MARTS)
    assert expected["xetra.bars"].height > 100_000
    for table, rows in s3.rows(*TABLES, *MARTS).items():
        assert_frame_equal(rows, expected[table])
    reports = {
        Path(entry["path"]).name: pl.read_parquet(bytes(obstore.get(store, entry["path"]).bytes()))
        for entry in obstore.list(store, "reports").collect()
    }
    assert reports.keys() == {path.name for path in (folders.home / "reports" / "xetra").iterdir()}
    for path in (folders.home / "reports" / "xetra").iterdir():
        assert_frame_equal(reports[path.name], pl.read_parquet(path))
    before = content()
    with s3.opened() as lake:
        assert load_and_derive(SESSIONS).rows_received == 0
        assert export_report(lake, source_named("xetra"), SESSIONS).written == []
    assert content() == before
