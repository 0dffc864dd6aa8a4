"""One switch, with the exchange's own files: Ceph's gateway holds what folders hold (source, lake, marts, reports)."""

from __future__ import annotations

import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import polars as pl
from polars.testing import assert_frame_equal

from assets_tests.lakes import MARTS, TABLES, Lakehouse, finished
from assets_tests.servers.ceph import CephS3

# A Saturday of test bars between a short session and two full ones.
DAYS = ("2017-06-30", "2017-07-01", "2017-07-03", "2017-07-04")
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
    folders = Lakehouse(tmp_path / "folders", {"LAKEHOUSE_XETRA_URL": str(feed)})
    places = {"LAKEHOUSE_XETRA_URL": "feed", "LAKEHOUSE_LAKE_URI": "lake", "LAKEHOUSE_XETRA_REPORT_URL": "reports"}
    s3 = Lakehouse(
        tmp_path / "s3", {**ceph_s3.environment(), **{name: f"s3://{bucket}/{place}" for name, place in places.items()}}
    )

    running = [house.start(*BACKFILL) for house in (folders, s3)]
    told = [finished(process) for process in running]

    # Whatever fails its check in the one lake must fail it in the other.
    assert told[0][0] == told[1][0], told
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
    before = obstore.list(store, "lake").collect()
    assert s3.run(*BACKFILL)[0] == told[1][0]
    assert {entry["path"] for entry in obstore.list(store, "lake").collect()} == {entry["path"] for entry in before}
