"""The S3 servers of the tests are S3 where the lake relies on it: signatures, conditional writes, commits."""

from __future__ import annotations

import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import duckdb
import duckdb_extension_httpfs
import obstore
import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError
from obstore.exceptions import AlreadyExistsError, PermissionDeniedError

from assets_tests.support.servers.ceph import CephS3
from assets_tests.support.servers.ministack import MinistackS3
from assets_tests.support.servers.process import MissingBinary, ServerError
from assets_tests.support.servers.s3 import REGION, S3Server


@pytest.fixture(params=["ceph_s3", "ministack_s3"])
def server(request: pytest.FixtureRequest) -> S3Server:
    return request.getfixturevalue(request.param)


@pytest.fixture
def bucket(server: S3Server) -> str:
    return server.create_bucket(f"test-{uuid.uuid4().hex}")


def storage_options(server: S3Server) -> dict[str, str]:
    return server.environment() | {"conditional_put": "etag"}


def duckdb_on(server: S3Server, secret_key: str) -> duckdb.DuckDBPyConnection:
    """DuckDB with the httpfs extension of the Python package, loaded from its file: nothing is downloaded."""
    extensions = Path(duckdb_extension_httpfs.__file__).parent / "extensions" / f"v{duckdb.__version__}"
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    connection.load_extension(str(extensions / "httpfs.duckdb_extension"))
    connection.execute(
        """CREATE SECRET (TYPE s3, KEY_ID $key, SECRET $secret, REGION $region,
                          ENDPOINT $host, URL_STYLE 'path', USE_SSL false)""",
        {
            "key": server.access_key,
            "secret": secret_key,
            "region": REGION,
            "host": server.endpoint.removeprefix("http://"),
        },
    )
    return connection


def day(session: str, *closes: float) -> pl.DataFrame:
    return pl.DataFrame({"session": [session] * len(closes), "close": list(closes)})


def test_objects_are_put_read_and_listed_in_order(server: S3Server, bucket: str) -> None:
    store = server.store(bucket)
    names = [f"2017-07-{day:02d}/BINS {hour:02d}=x.csv" for day in (4, 3) for hour in (9, 8)]
    for name in names:
        obstore.put(store, name, name.encode())

    assert [entry["path"] for entry in obstore.list(store).collect()] == sorted(names)
    assert [entry["path"] for entry in obstore.list(store, "2017-07-04").collect()] == sorted(names)[2:]
    assert bytes(obstore.get(store, names[0]).bytes()) == names[0].encode()
    with pytest.raises(FileNotFoundError):
        obstore.get(store, "2017-07-05/absent.csv")


def test_an_overwritten_object_has_another_etag(server: S3Server, bucket: str) -> None:
    store = server.store(bucket)
    before = obstore.put(store, "a.csv", b"1")["e_tag"]
    after = obstore.put(store, "a.csv", b"2")["e_tag"]

    assert before != after
    assert obstore.head(store, "a.csv")["e_tag"] == after


def test_more_objects_than_a_page_are_listed_completely(server: S3Server, bucket: str) -> None:
    store = server.store(bucket)
    names = [f"{number:04d}" for number in range(1050)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: obstore.put(store, name, b""), names))

    assert [entry["path"] for entry in obstore.list(store).collect()] == names


def test_a_conditional_put_has_exactly_one_winner(server: S3Server, bucket: str) -> None:
    store, threads = server.store(bucket), 8
    start = Barrier(threads)

    def commit(writer: int, version: int) -> bool:
        start.wait()
        try:
            obstore.put(store, f"{version:020d}.json", str(writer).encode(), mode="create")
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(threads) as pool:
        for version in range(20):
            won = list(pool.map(commit, range(threads), [version] * threads))
            assert won.count(True) == 1
            stored = bytes(obstore.get(store, f"{version:020d}.json").bytes())
            assert int(stored) == won.index(True)


def test_ceph_refuses_a_wrong_secret(ceph_s3: CephS3) -> None:
    bucket = ceph_s3.create_bucket(f"test-{uuid.uuid4().hex}")
    stranger = ceph_s3.store(bucket, secret_key="not-the-secret")

    with pytest.raises(PermissionDeniedError):
        obstore.put(stranger, "a.csv", b"1")
    assert obstore.list(ceph_s3.store(bucket)).collect() == []


def test_a_stale_overwrite_of_the_same_partition_is_refused(server: S3Server, bucket: str) -> None:
    uri, options = f"s3://{bucket}/bars", storage_options(server)
    write_deltalake(uri, day("2017-07-03", 1.0), partition_by=["session"], storage_options=options)
    first, second = DeltaTable(uri, storage_options=options), DeltaTable(uri, storage_options=options)
    overwrite = {"mode": "overwrite", "predicate": "session = '2017-07-03'"}

    write_deltalake(first, day("2017-07-03", 2.0), **overwrite)
    with pytest.raises(CommitFailedError):
        write_deltalake(second, day("2017-07-03", 3.0), **overwrite)

    assert pl.read_delta(uri, storage_options=options)["close"].to_list() == [2.0]


def test_stale_overwrites_of_different_partitions_both_succeed(server: S3Server, bucket: str) -> None:
    uri, options = f"s3://{bucket}/bars", storage_options(server)
    both = pl.concat([day("2017-07-03", 1.0), day("2017-07-04", 1.0)])
    write_deltalake(uri, both, partition_by=["session"], storage_options=options)
    first, second = DeltaTable(uri, storage_options=options), DeltaTable(uri, storage_options=options)

    write_deltalake(first, day("2017-07-03", 2.0), mode="overwrite", predicate="session = '2017-07-03'")
    write_deltalake(second, day("2017-07-04", 3.0), mode="overwrite", predicate="session = '2017-07-04'")

    rows = pl.read_delta(uri, storage_options=options).sort("session")
    assert rows["close"].to_list() == [2.0, 3.0]
    assert DeltaTable(uri, storage_options=options).version() == 2


def test_duckdb_reads_the_files_of_a_delta_table(server: S3Server, bucket: str) -> None:
    uri, options = f"s3://{bucket}/bars", storage_options(server)
    both = pl.concat([day("2017-07-03", 1.0, 2.5), day("2017-07-04", 4.0)])
    write_deltalake(uri, both, partition_by=["session"], storage_options=options)
    files = DeltaTable(uri, storage_options=options).file_uris()

    with duckdb_on(server, server.secret_key) as connection:
        rows = connection.execute(
            """SELECT session::VARCHAR, sum(close) FROM read_parquet(?, hive_partitioning => true)
               GROUP BY ALL ORDER BY ALL""",
            [files],
        ).fetchall()

    assert rows == [("2017-07-03", 3.5), ("2017-07-04", 4.0)]


def test_a_refused_read_is_an_error_in_duckdb(ceph_s3: CephS3) -> None:
    bucket = ceph_s3.create_bucket(f"test-{uuid.uuid4().hex}")
    uri = f"s3://{bucket}/bars"
    write_deltalake(uri, day("2017-07-03", 1.0), storage_options=storage_options(ceph_s3))
    files = DeltaTable(uri, storage_options=storage_options(ceph_s3)).file_uris()

    with duckdb_on(ceph_s3, "not-the-secret") as connection, pytest.raises(duckdb.HTTPException, match="403"):
        connection.execute("SELECT count(*) FROM read_parquet(?)", [files]).fetchall()


def test_a_missing_binary_names_its_debian_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(MissingBinary, match=r"ceph-mon.*Debian package: ceph-mon"), CephS3():
        pass


def test_a_failed_start_quotes_the_log_and_leaves_no_process(
    ceph_s3: CephS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway fails when monitor and OSD are already up: both end with it."""
    gateway = tmp_path / "radosgw"
    gateway.write_text('#!/bin/sh\necho "no such frontend: beast"\nexit 3\n')
    gateway.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    before = ceph_daemons()

    with pytest.raises(ServerError, match=r"(?s)radosgw ended with 3.*no such frontend: beast"), CephS3():
        pass

    assert ceph_daemons() == before != set()


def test_two_servers_run_side_by_side(ministack_s3: MinistackS3) -> None:
    with MinistackS3() as second:
        assert second.endpoint != ministack_s3.endpoint
        obstore.put(second.store(second.create_bucket("same-name")), "a", b"1")
        assert obstore.list(ministack_s3.store(ministack_s3.create_bucket("same-name"))).collect() == []


def ceph_daemons() -> set[str]:
    """The Ceph monitors and OSDs that this process has started and that still run, by process id."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    names = {child: Path(f"/proc/{child}/comm").read_text().strip() for child in children}
    return {child for child, name in names.items() if name in ("ceph-mon", "ceph-osd")}
