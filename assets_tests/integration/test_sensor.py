"""The sensor of a source, evaluated against a real Dagster instance: what it asks for, and when it holds back."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from assets_tests.integration.conftest import FirstLoad
from assets_tests.support.described import with_bars
from assets_tests.support.exchange_lake import FIRST, LAST, SESSIONS, ExchangeLake, code_location, evaluated, tick
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.components.sources import sensor
from lakehouse.components.sources.run_tags import (
    NEXT_RUN_TAG,
    PARTITION_TAG,
    RANGE_END_TAG,
    RANGE_START_TAG,
    range_tags,
)
from lakehouse.components.sources.sensor import CHANGES_TAG, SOURCE_TAG, TRIES
from lakehouse.errors import SourceUnavailable
from lakehouse.ingest.discover import Discovery, discover
from lakehouse.ingest.load import load
from lakehouse.ingest.object_store import objects_at
from lakehouse.simulators.truth import Stage

SUCCESS, FAILURE = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE


def spans(requests: list[dg.RunRequest]) -> list[tuple[str, str]]:
    return [(request.tags[RANGE_START_TAG], request.tags[RANGE_END_TAG]) for request in requests]


def record(
    instance: dg.DagsterInstance, tags: dict[str, str], status: dg.DagsterRunStatus, job: str = "xetra_update"
) -> None:
    """A run as Dagster's daemon would have made it of a request."""
    definition = code_location().resolve_job_def(job)
    instance.create_run_for_job(job_def=definition, tags=tags, status=status)


@pytest.fixture
def taken_in(first_load: FirstLoad) -> ExchangeLake:
    """A lake that has taken in everything that its exchange has published."""
    return first_load.lake


def test_new_objects_are_one_request_for_their_stretch_of_sessions(
    exchange_lake: ExchangeLake, instance: dg.DagsterInstance
) -> None:
    exchange_lake.exchange.write(exchange_lake.feed)
    (request,), _ = tick(instance)

    assert spans([request]) == [(str(FIRST), str(LAST))]
    assert request.tags[SOURCE_TAG] == "xetra"
    assert request.run_key == f"xetra-{request.tags[CHANGES_TAG]}-0"
    # The same changes are the same request, so that Dagster launches it once.
    (again,), _ = tick(instance, cursor="anything")
    assert again == request


def test_nothing_new_is_skipped_even_after_a_restart(taken_in: ExchangeLake, instance: dg.DagsterInstance) -> None:
    for cursor in (None, "something else"):
        assert tick(instance, cursor) == ([], "no new or changed objects")


def test_an_object_that_comes_within_a_tick_is_asked_for_by_it(
    taken_in: ExchangeLake, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursor = evaluated(instance).cursor
    monkeypatch.setattr(sensor.time, "sleep", lambda seconds: taken_in.exchange.write(taken_in.feed, "late"))
    requests, _ = tick(instance, cursor)

    session = str(taken_in.exchange.truth.late_object)[:10]
    assert spans(requests) == [(session, session)]


def test_everything_is_listed_once_a_day(
    taken_in: ExchangeLake, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def noted(*arguments: object, recent: bool, **others: object) -> Discovery:
        asked.append(recent)
        return discover(*arguments, recent=recent, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(sensor, "discover", noted)
    monkeypatch.setattr(sensor, "_WATCHED_SECONDS", 0.0)
    cursor, now = None, datetime.now(UTC)
    for hours in (0, 1, 23, 25, 26):
        monkeypatch.setattr(sensor, "_now", lambda hours=hours: now + timedelta(hours=hours))
        cursor = evaluated(instance, cursor).cursor
    assert asked == [False, True, True, False, True]


@pytest.mark.parametrize(
    ("stage", "object_of"),
    [("late", "late_object"), ("repaired", "damaged_object"), ("corrected", "corrected_object")],
)
def test_a_late_a_repaired_and_a_corrected_object_ask_for_their_session(
    taken_in: ExchangeLake, instance: dg.DagsterInstance, stage: Stage, object_of: str
) -> None:
    taken_in.exchange.write(taken_in.feed, stage)
    requests, _ = tick(instance)

    session = str(getattr(taken_in.exchange.truth, object_of))[:10]
    assert spans(requests) == [(session, session)]


def test_sessions_that_are_no_neighbours_are_requests_of_their_own(
    taken_in: ExchangeLake, instance: dg.DagsterInstance
) -> None:
    for stage in ("late", "repaired", "corrected"):
        taken_in.exchange.write(taken_in.feed, stage)  # type: ignore[arg-type]
    requests, _ = tick(instance)

    alone = [str(SESSIONS[place]) for place in (0, 2, 4)]
    assert spans(requests) == [(session, session) for session in alone]
    assert len({request.run_key for request in requests}) == 3


def test_a_system_test_on_a_saturday_belongs_to_the_next_session(
    taken_in: ExchangeLake, instance: dg.DagsterInstance
) -> None:
    saturday = "2024-03-30"
    (taken_in.feed / saturday / f"{saturday}_BINS_XETR09.csv").write_bytes(b"not loaded by this test")
    requests, _ = tick(instance)

    assert spans(requests) == [("2024-04-02", "2024-04-02")]


def test_an_object_of_a_session_to_come_waits_for_it(exchange_lake: ExchangeLake, instance: dg.DagsterInstance) -> None:
    exchange_lake.exchange.write(exchange_lake.feed)
    with dg.partition_loading_context(effective_dt=datetime(2024, 3, 27, 12, tzinfo=UTC)):
        requests, _ = tick(instance)
    assert spans(requests) == [(str(FIRST), "2024-03-27")]


@pytest.mark.parametrize("tags", [{SOURCE_TAG: "xetra"}, {PARTITION_TAG: str(FIRST)}])
def test_while_a_run_is_on_its_way_nothing_is_asked_for(
    taken_in: ExchangeLake, instance: dg.DagsterInstance, tags: dict[str, str]
) -> None:
    taken_in.exchange.write(taken_in.feed, "late")
    (request,), _ = tick(instance)
    record(instance, request.tags | tags if SOURCE_TAG in tags else tags, dg.DagsterRunStatus.STARTED)
    requests, said = tick(instance)

    assert requests == []
    assert str(said).startswith("1 objects wait for run ")


def test_objects_read_by_other_settings_are_counted_not_asked_for(
    taken_in: ExchangeLake, instance: dg.DagsterInstance
) -> None:
    other = with_bars(source_named("xetra"), nulls=("", "-"))
    reread = sum(load(Lake.open(), other.bars, SESSIONS[-1:], reread=True).objects.values())
    assert reread > 1
    said = f"no new or changed objects; {reread} objects were read by other settings: run the job xetra_reload"
    assert tick(instance) == ([], said)


def test_a_run_of_another_job_is_no_reason_to_wait(taken_in: ExchangeLake, instance: dg.DagsterInstance) -> None:
    taken_in.exchange.write(taken_in.feed, "late")
    record(instance, {}, dg.DagsterRunStatus.STARTED, job="lake_maintenance")
    assert len(tick(instance)[0]) == 1


def test_a_backfill_that_got_there_first_leaves_nothing_to_do(
    taken_in: ExchangeLake, instance: dg.DagsterInstance
) -> None:
    taken_in.exchange.write(taken_in.feed, "late")
    assert len(tick(instance)[0]) == 1
    assert taken_in.run(instance, LAST, LAST, marts=False).success
    assert tick(instance) == ([], "no new or changed objects")


def test_failed_runs_are_tried_again_up_to_a_limit_and_then_reported(
    taken_in: ExchangeLake, instance: dg.DagsterInstance
) -> None:
    taken_in.exchange.write(taken_in.feed, "late")
    keys = []
    for _ in range(TRIES):
        (request,), _ = tick(instance)
        keys.append(request.run_key)
        record(instance, request.tags, FAILURE)
    assert len(set(keys)) == TRIES

    requests, said = tick(instance)
    assert requests == []
    assert str(said).startswith(f"given up after {TRIES} failed runs: {LAST} to {LAST}")
    # People mended the cause and ran the session by hand.
    assert taken_in.run(instance, LAST, LAST, marts=False).success
    assert tick(instance) == ([], "no new or changed objects")


def test_a_run_that_failed_after_its_load_is_tried_again(taken_in: ExchangeLake, instance: dg.DagsterInstance) -> None:
    """Nothing is pending any more, but the marts don't have it yet."""
    record(instance, {**range_tags(FIRST, LAST), CHANGES_TAG: "a", SOURCE_TAG: "xetra"}, FAILURE)
    (request,), _ = tick(instance)
    assert spans([request]) == [(str(FIRST), str(LAST))]
    assert request.run_key == "xetra-a-1"

    record(instance, request.tags, SUCCESS)
    assert tick(instance) == ([], "no new or changed objects")


def test_sessions_of_a_backfill_that_was_killed_are_asked_for(
    taken_in: ExchangeLake, instance: dg.DagsterInstance
) -> None:
    """It may have loaded what it did not derive any more: nothing is pending, and the marts lack it."""
    record(instance, {**range_tags(FIRST, LAST), SOURCE_TAG: "xetra"}, FAILURE)
    record(instance, {SOURCE_TAG: "xetra"}, FAILURE)  # its second run, of the assets without partitions
    (request,), _ = tick(instance)
    assert spans([request]) == [(str(FIRST), str(LAST))]

    record(instance, request.tags, SUCCESS)
    assert tick(instance) == ([], "no new or changed objects")


def test_sessions_of_a_backfill_that_was_killed_between_its_runs_are_asked_for(
    taken_in: ExchangeLake, instance: dg.DagsterInstance
) -> None:
    tags = {**range_tags(FIRST, LAST), SOURCE_TAG: "xetra", NEXT_RUN_TAG: "00000000-0000-4000-8000-000000000000"}
    record(instance, tags, FAILURE)
    record(instance, tags, SUCCESS)
    (request, *_), _ = tick(instance)
    assert spans([request]) == [(str(FIRST), str(LAST))]

    record(instance, request.tags, SUCCESS)
    assert tick(instance) == ([], "no new or changed objects")


def test_objects_that_cannot_be_read_are_not_asked_for_again(
    taken_in: ExchangeLake, instance: dg.DagsterInstance
) -> None:
    ledger = taken_in.rows("ingest_ledger")
    assert ledger.filter(pl.col("status") == "failed").height == 1
    assert tick(instance)[0] == []


def test_a_source_without_an_address_says_how_to_give_it_one(
    taken_in: ExchangeLake, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAKEHOUSE_XETRA_URL")
    requests, said = tick(instance)
    assert requests == []
    assert "set LAKEHOUSE_XETRA_URL to a folder or an s3:// URL" in str(said)


def test_a_source_that_does_not_answer_fails_the_tick(taken_in: ExchangeLake, instance: dg.DagsterInstance) -> None:
    taken_in.feed.rename(taken_in.home / "gone")
    with pytest.raises(SourceUnavailable, match="feed is no folder; set the source's URL"):
        tick(instance)


def memory_kb(name: str) -> int:
    """What the kernel says of this process's memory."""
    (found,) = re.findall(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found)


def test_a_tick_over_100_000_known_objects_is_quick(exchange_lake: ExchangeLake, instance: dg.DagsterInstance) -> None:
    known, days = 100_000, [date(2017, 6, 19) + timedelta(days=number) for number in range(2084)]
    names = [f"{day}/{day}_BINS_XETR{hour:02}.csv{end}" for day in days for hour in range(24) for end in ("", ".gz")]
    for day in days:
        (exchange_lake.feed / str(day)).mkdir()
    for name in names[:known]:
        os.close(os.open(exchange_lake.feed / name, os.O_CREAT | os.O_WRONLY))
    _append_to_ledger(objects_at(str(exchange_lake.feed)).list().objects)
    late = [str(exchange_lake.feed / name) for name in names[known : known + 3]]
    for path in late:
        Path(path).touch()

    code_location()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free belongs to the kernel again, and counts when it is used
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before, seconds = memory_kb("VmRSS"), []
    for _ in range(3):
        # Of the CPU, so that the tests beside it don't count: more than those of the clock, since threads add up.
        started = time.process_time()
        requests, _ = tick(instance)
        seconds.append(time.process_time() - started)
    assert len(requests) == 1
    assert min(seconds) < 2
    # What they add to a process that has Dagster and the definitions loaded.
    assert memory_kb("VmHWM") - before < 300_000


def _append_to_ledger(listed: pl.DataFrame) -> None:
    table = Lake.open().table("ingest_ledger")
    now = pl.lit(datetime.now(UTC)).dt.cast_time_unit("us")
    part = {"part": pl.Date, "rows": pl.Int64, "digest": pl.String, "object_version": pl.String}
    constant = {"source": "xetra", "product": "bars", "status": "empty"}
    session = pl.col("name").str.head(10).str.to_date()
    rows = listed.select(
        *(pl.lit(value).alias(name) for name, value in constant.items()),
        *(pl.lit(0, pl.Int64).alias(name) for name in ("rows_received", "rows_repeated", "rows_quarantined")),
        pl.lit(1, pl.Int64).alias("sequence"),
        *(pl.lit(None, pl.String).alias(name) for name in ("error", "reading", "run_id")),
        pl.lit(False).alias("is_withheld"),
        pl.lit(None, pl.Boolean).alias("is_refused"),
        pl.lit([], pl.List(pl.Struct(part))).alias("parts"),
        pl.col("name").alias("object"),
        pl.col("version").alias("object_version"),
        *(session.alias(f"{end}_session") for end in ("first", "last")),
        *("size", "published_at"),
        now.alias("ingested_at"),
    ).select(table.contract.column_names)
    table.snapshot().append(rows.to_arrow().cast(table.contract.arrow_schema), ["xetra"])
