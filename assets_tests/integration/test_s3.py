"""One switch: source and lake on S3 by settings alone hold what they hold in folders; S3's faults are told in words."""

from __future__ import annotations

import random
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path

import duckdb
import obstore
import polars as pl
import pytest
from obstore.store import S3Store
from polars.testing import assert_frame_equal

from assets_tests.support.feed_lake import FeedLake, said
from assets_tests.support.lakes import MARTS, TABLES, Lakehouse
from assets_tests.support.servers.ceph import CephS3
from assets_tests.support.servers.ministack import MinistackS3
from assets_tests.support.servers.s3 import S3Server
from assets_tests.support.writers import load_and_derive, run_at_once
from lakehouse.api import Lake
from lakehouse.domains.market.calendar import CalendarSpec, SessionCalendar, build_sessions
from lakehouse.lake import engine
from lakehouse.simulators.exchange import Exchange

FIRST, LAST = date(2024, 3, 27), date(2024, 4, 3)
BACKFILL = ("backfill", "xetra", "--from", str(FIRST), "--to", str(LAST))
SESSIONS = [date(2024, 3, 27), date(2024, 3, 28), date(2024, 4, 2), date(2024, 4, 3)]
FILLED = tuple(
    f"marts.{name}"
    for name in (
        *("dim_venue", "dim_session", "dim_instrument", "fct_daily_bar", "daily_summary", "daily_movers"),
        *("most_traded_by_value", "average_range", "returns", "dim_resolution", "bridge_instrument_identifier"),
    )
)
"""What an exchange's files fill: they have no dividends and no splits, and are neither quotes nor another domain's."""
LATER_STAGES = ("late", "repaired", "corrected")


@dataclass(frozen=True)
class Twins:
    """The same feed taken in by a lake in folders and by one on S3."""

    server: S3Server
    bucket: str
    folders: Lakehouse
    s3: Lakehouse

    @property
    def store(self) -> S3Store:
        return self.server.store(self.bucket)


def on_s3(server: S3Server, bucket: str, home: Path, lake: str = "lake") -> Lakehouse:
    """An installation with source, lake and reports in a bucket."""
    places = {
        "LAKEHOUSE_XETRA_URL": "feed",
        "LAKEHOUSE_LAKE_URI": lake,
        "LAKEHOUSE_XETRA_REPORT_URL": f"{lake}-reports",
    }
    return Lakehouse(
        home, {**server.environment(), **{name: f"s3://{bucket}/{place}" for name, place in places.items()}}
    )


def upload(store: S3Store, folder: Path, paths: list[Path]) -> None:
    for path in paths:
        obstore.put(store, f"feed/{path.relative_to(folder)}", path.read_bytes())


def content(store: S3Store, prefix: str) -> dict[str, str | None]:
    """Every object below a prefix with its ETag."""
    return {entry["path"]: entry["e_tag"] for entry in obstore.list(store, prefix).collect()}


@pytest.fixture(scope="module")
def twins(ministack_s3: MinistackS3, tmp_path_factory: pytest.TempPathFactory) -> Twins:
    root = tmp_path_factory.mktemp("twins")
    calendar = SessionCalendar("Europe/Berlin", build_sessions(CalendarSpec("XETR", "Europe/Berlin", "another"), FIRST))
    exchange = Exchange(
        [(session, *calendar.hours(session)) for session in calendar.between(FIRST, LAST)], instruments=15
    )
    feed = root / "feed"
    bucket = ministack_s3.create_bucket(f"twins-{uuid.uuid4().hex}")
    made = Twins(
        ministack_s3,
        bucket,
        Lakehouse(root / "folders", {"LAKEHOUSE_XETRA_URL": str(feed)}),
        on_s3(ministack_s3, bucket, root / "s3"),
    )
    upload(made.store, feed, exchange.write(feed))
    for house in (made.folders, made.s3):
        # A damaged object can't be read and one is missing: what they hold is missing everywhere until later.
        with house.opened():
            assert load_and_derive(SESSIONS).errors
    for stage in LATER_STAGES:
        upload(made.store, feed, exchange.write(feed, stage=stage))
    for house in (made.folders, made.s3):
        house.succeed(*BACKFILL)
    return made


@pytest.mark.parametrize("table", [*TABLES, *MARTS])
def test_s3_and_folders_hold_the_same_rows(twins: Twins, table: str) -> None:
    expected, found = twins.folders.rows(table)[table], twins.s3.rows(table)[table]

    assert (expected.height > 0) == (table in (*TABLES, *FILLED))
    assert_frame_equal(found, expected)


def test_a_feed_is_kept_in_the_bucket(twins: Twins) -> None:
    opens = datetime(2026, 3, 2, 15, tzinfo=UTC)
    quotes = [said("AAPL", opens + timedelta(seconds=10 * number), 100.0 + number) for number in range(30)]
    found = []
    for house in (twins.folders, twins.s3):
        with house.opened() as lake:
            FeedLake(lake=lake).tell(quotes)
            assert ("iex", "quotes") in Lake.open().tables()
            windows = Lake.open().sql("SELECT * EXCLUDE (closed_at) FROM iex.quote_windows ORDER BY ALL")
            assert windows is not None
            found.append(windows.pl())
    assert found[0].height > 0
    assert_frame_equal(*found)


def test_nothing_of_the_lake_is_written_beside_the_bucket(twins: Twins) -> None:
    assert not (twins.s3.home / "lake").exists()
    assert not (twins.s3.home / "reports").exists()


def test_the_daily_report_goes_to_the_bucket(twins: Twins) -> None:
    reports = {Path(name).name: name for name in content(twins.store, "lake-reports")}
    expected = {path.name: pl.read_parquet(path) for path in (twins.folders.home / "reports" / "xetra").iterdir()}

    assert reports.keys() == expected.keys() != set()
    for name, frame in expected.items():
        assert_frame_equal(pl.read_parquet(bytes(obstore.get(twins.store, reports[name]).bytes())), frame)


def test_sql_and_status_answer_from_s3(twins: Twins) -> None:
    query = "SELECT session, count(*) AS bars, sum(volume) AS volume FROM xetra.bars GROUP BY session ORDER BY session"

    assert (
        twins.s3.succeed("sql", query, "--format", "csv")
        == twins.folders.succeed("sql", query, "--format", "csv")
        != ""
    )
    # Where the two are, and the moments at which this test wrote the one and the other.
    own = ("lake: ", "marts", "last commit")
    told, other = (
        [line for line in house.succeed("status").splitlines() if not line.startswith(own)]
        for house in (twins.s3, twins.folders)
    )
    assert told == other
    assert any("sessions loaded" in line for line in told)


@pytest.mark.parametrize("packaged", [True, False])
def test_a_locked_lake_reads_its_bucket_and_no_other(
    twins: Twins, monkeypatch: pytest.MonkeyPatch, packaged: bool
) -> None:
    if not packaged:
        monkeypatch.setitem(sys.modules, "duckdb_extension_httpfs", None)
    query = "SELECT count(*), sum(volume) FROM xetra.daily_bars"
    with twins.s3.opened() as lake:
        locked, plain = Lake.open(locked=True).sql(query), lake.sql(query)
        assert locked is not None
        assert plain is not None
        assert locked.fetchall() == plain.fetchall()
        for path in ("s3://another/rows.parquet", "/etc/passwd"):
            with pytest.raises(duckdb.Error, match="disabled by configuration"):
                locked.query("rows", f"FROM read_blob('{path}')")


def test_an_object_that_was_replaced_is_read_again(twins: Twins) -> None:
    path = f"s3://{twins.bucket}/replaced/rows.parquet"
    with twins.s3.opened():
        for number in range(3):
            with engine.opened(path) as connection:
                connection.execute(f"COPY (SELECT {number} AS number) TO '{path}'")
            with engine.opened(path) as connection:
                assert connection.execute(f"FROM '{path}'").fetchall() == [(number,)]


def test_a_second_run_writes_nothing(twins: Twins) -> None:
    before = content(twins.store, "lake") | content(twins.store, "lake-reports")

    twins.s3.succeed(*BACKFILL)

    assert content(twins.store, "lake") | content(twins.store, "lake-reports") == before


def test_two_processes_at_once_leave_what_one_leaves(twins: Twins, tmp_path: Path) -> None:
    shared, alone = (on_s3(twins.server, twins.bucket, tmp_path / name, name) for name in ("shared", "alone"))
    run_at_once(shared.environment, [SESSIONS, SESSIONS], random.Random(0))
    run_at_once(alone.environment, [SESSIONS], random.Random(0))

    found, expected = shared.rows(*TABLES), alone.rows(*TABLES)
    assert expected["xetra.daily_bars"].height > 0
    for table in TABLES:
        assert_frame_equal(found[table], expected[table])


def test_without_the_packaged_extension_s3fs_reads_the_lake(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = twins.folders.rows(*TABLES)
    monkeypatch.setitem(sys.modules, "duckdb_extension_httpfs", None)
    # The DuckDB that runs in this process may have loaded it already.
    monkeypatch.setattr(engine, "_running", cache(engine._running.__wrapped__))

    with twins.s3.opened() as lake, lake.connect() as connection:
        loaded = connection.execute(
            "SELECT count(*) FROM duckdb_extensions() WHERE loaded AND extension_name = 'httpfs'"
        ).fetchone()
    found = twins.s3.rows(*TABLES)

    assert loaded == (0,)
    for table, rows in found.items():
        assert_frame_equal(rows, expected[table])


def test_a_missing_bucket_is_named(ministack_s3: MinistackS3, tmp_path: Path) -> None:
    house = on_s3(ministack_s3, "no-such-bucket", tmp_path / "home")

    for command in (BACKFILL, ("status",), ("sql", "FROM xetra.bars")):
        code, output = house.run(*command)
        assert code != 0, command
        assert "no-such-bucket" in output
        assert "Traceback" not in output


def test_a_wrong_secret_is_refused_in_words_that_do_not_tell_it(
    ceph_s3: CephS3, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bucket = ceph_s3.create_bucket(f"refused-{uuid.uuid4().hex}")
    wrong = "d0-n0t-t3ll-th1s-t0-any0ne"
    known = on_s3(ceph_s3, bucket, tmp_path / "home")
    house = Lakehouse(known.home, {**known.variables, "AWS_SECRET_ACCESS_KEY": wrong})

    for command in (BACKFILL, ("status",), ("sql", "FROM xetra.bars")):
        code, output = house.run(*command)
        # What a library writes past Python is printed, too.
        printed = output + "".join(capfd.readouterr())
        assert code != 0, command
        assert bucket in output
        assert "Traceback" not in printed
        assert wrong not in printed
    told = [path for path in house.home.rglob("*") if path.is_file() and wrong.encode() in path.read_bytes()]
    assert told == []
    assert content(ceph_s3.store(bucket), "") == {}
