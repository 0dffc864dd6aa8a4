"""A load that is bad but passes its checks: readers return to the release before it, and the lake too."""

from __future__ import annotations

import csv
import gzip
import io
from datetime import UTC, date, datetime

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from assets_tests.integration.conftest import FirstLoad
from assets_tests.support.exchange_lake import LAST, TABLES, ExchangeLake
from assets_tests.support.servers.ministack import MinistackS3
from lakehouse.api import Lake
from lakehouse.cli.app import app
from lakehouse.lake.maintenance import maintain
from lakehouse.lake.releases import release_named, releases, restore_tables
from lakehouse.settings import settings
from lakehouse.warehouse.releases import create, drop, use

TABLE_NAMES = [name.replace("/", ".") if "/" in name else f"lake.{name}" for name in TABLES]


def misprint(lake: ExchangeLake, session: date) -> None:
    """The vendor sends the prices of an hour doubled: no rule is broken."""
    path = min(path for path in (lake.feed / str(session)).iterdir() if len(gzip.decompress(path.read_bytes())) > 500)
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(path.read_bytes()).decode())))
    for row in rows:
        for name in ("StartPrice", "MaxPrice", "MinPrice", "EndPrice"):
            row[name] = str(float(row[name]) * 2)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(gzip.compress(text.getvalue().encode()))


def seen(lake: Lake | None = None) -> dict[str, pl.DataFrame]:
    """What readers see, in the tables and in the marts."""
    opened = lake or Lake.open()
    found = {}
    for name in (*TABLE_NAMES, "marts.fct_daily_bar"):
        answer = opened.sql(f"FROM {name}")
        assert answer is not None
        frame = answer.pl()
        found[name] = frame.sort([name for name, kind in frame.schema.items() if not kind.is_nested()])
    return found


def differing(one: dict[str, pl.DataFrame], other: dict[str, pl.DataFrame]) -> set[str]:
    return {name for name, frame in one.items() if not frame.equals(other[name])}


def test_readers_and_the_lake_return_to_the_release_before_a_bad_load(
    first_load: FirstLoad, instance: dg.DagsterInstance
) -> None:
    lake = first_load.lake
    create(settings(), "before")
    before = seen()
    misprint(lake, LAST)
    assert lake.run(instance, LAST, LAST).success
    bad = seen()
    assert {"xetra.daily_bars", "lake.ingest_ledger", "marts.fct_daily_bar"} <= differing(bad, before)

    use(settings(), "before")
    assert differing(seen(), before) == set()
    assert differing(seen(Lake.present()), bad) == set()
    # A further load goes on, unseen.
    lake.exchange.write(lake.feed, "late")
    assert lake.run(instance, marts=False).success
    assert differing(seen(), before) == set()
    later = seen(Lake.present())["xetra.daily_bars"]
    assert "xetra.bars" in differing(seen(Lake.present()), bad)
    # As of a moment after the release, its readers are answered from what it has.
    past = Lake.open(as_of=bad["lake.ingest_ledger"]["ingested_at"].max())
    answer = past.sql("FROM marts.fct_daily_bar")
    assert answer is not None
    assert_frame_equal(answer.pl(), before["marts.fct_daily_bar"], check_row_order=False)

    use(settings(), "latest")
    done = CliRunner().invoke(app, ["release", "restore", "before", "--yes"])
    assert done.exit_code == 0, done.output
    assert "xetra/daily_bars: " in done.output
    assert differing(seen(), before) == set()
    verified = CliRunner().invoke(app, ["rebuild", "xetra", "--verify"])
    assert (verified.exit_code, "marts: nothing differs" in verified.output) == (0, True), verified.output
    # The next load takes again what the source has.
    assert lake.run(instance, marts=False).success
    assert seen()["xetra.daily_bars"].equals(later)


def poll_error(symbol: str) -> None:
    """A load of one row."""
    table = Lake.present().table("iex/poll_errors")
    moment = datetime(2024, 3, 1, 12, tzinfo=UTC)
    row = {"symbol": symbol, "slot_at": moment, "attempt": 1, "day": moment.date(), "kind": "quota", "error": "429"}
    rows = pa.Table.from_pylist([{**row, "occurred_at": moment}], schema=table.contract.arrow_schema)
    table.snapshot().append(rows, [symbol])


def test_a_release_is_kept_in_the_bucket_with_the_tables(
    ministack_s3: MinistackS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ministack_s3.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LAKEHOUSE_LAKE_URI", f"s3://{ministack_s3.create_bucket('releases')}/lake")
    settings.cache_clear()

    def symbols() -> list[str]:
        return sorted(Lake.open().table("iex/poll_errors").to_polars()["symbol"])

    poll_error("GOOD")
    create(settings(), "before")
    poll_error("BAD")
    use(settings(), "before")
    assert symbols() == ["GOOD"]
    maintain(Lake.present(), settings(), retention_hours=0)
    assert symbols() == ["GOOD"]
    use(settings(), "latest")
    assert symbols() == ["BAD", "GOOD"]
    restore_tables(Lake.present(), release_named(Lake.present(), "before"))
    assert symbols() == ["GOOD"]
    drop(settings(), "before")
    assert releases(Lake.present()) == []
