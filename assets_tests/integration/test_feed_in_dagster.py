"""A feed as Dagster sees it: what its jobs poll, derive and report, what its checks hold back, and what its sensor, its
schedule and its freshness say.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
import yaml
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.definitions.freshness_evaluator import TimeWindowFreshnessPolicyEvaluator
from dagster._core.loader import LoadingContextForTest
from dagster._core.test_utils import freeze_time
from dagster.components.testing import create_defs_folder_sandbox
from deltalake import DeltaTable
from polars.testing import assert_frame_equal
from rich.console import Console

from assets_tests.support.exchange_lake import failed_checks, materialized
from assets_tests.support.feed_lake import SOURCE, TOKEN, FeedLake, assert_served_and_stored, polled, said
from assets_tests.support.patience import wait_until
from assets_tests.support.soak import soak_count
from assets_tests.support.window_reference import assert_same, closed_windows
from lakehouse.api import Lake
from lakehouse.catalog import DEFS
from lakehouse.cli.stream import run_stream
from lakehouse.components import QuoteFeed as QuoteFeedComponent
from lakehouse.components.alerts import stale_assets
from lakehouse.components.quotes import assets as feed_assets
from lakehouse.components.resources import lake_resources
from lakehouse.components.sources.run_tags import PARTITION_TAG, range_tags
from lakehouse.domains.market.quotes.ingest import Round, Totals
from lakehouse.domains.market.quotes.service import poll
from lakehouse.settings import settings
from lakehouse.simulators.quote_feed import QuoteFeed, RandomQuotes

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")

SYMBOLS = ("AAPL", "GME", "MSFT", "NIO", "TSLA")
EVERY_S = 0.25
COMMITS = soak_count(100, 400)
TABLES = ("quotes", "poll_errors", "quote_windows")
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture(scope="module")
def definitions() -> Iterator[dg.Definitions]:
    """What the feed's YAML makes, with shorter rounds."""
    document = yaml.safe_load((DEFS / "market" / SOURCE / "defs.yaml").read_text())
    document["attributes"]["poll_interval_s"] = EVERY_S
    with create_defs_folder_sandbox() as sandbox:
        folder = sandbox.scaffold_component(component_cls=QuoteFeedComponent, defs_yaml_contents=document)
        with sandbox.load_component_and_build_defs(defs_path=folder) as (_, made):
            beside = dg.Definitions(resources=lake_resources(), executor=dg.in_process_executor)
            yield dg.Definitions.merge(made, beside)


@pytest.fixture
def feed() -> QuoteFeed:
    """A vendor whose time runs eighty times as fast, and stays in the past."""
    start = datetime.now(UTC) - timedelta(minutes=40)
    return QuoteFeed(RandomQuotes(SYMBOLS, seed=6), token=TOKEN, start=start, speed=80)


@pytest.fixture
def lake(feed: QuoteFeed, tmp_path: Path) -> Iterator[FeedLake]:
    """An empty lake beside the vendor."""
    with polled(tmp_path / "home", feed, SYMBOLS) as made:
        yield made


def today() -> date:
    return datetime.now(UTC).date()


def run(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    job: str,
    first: date,
    last: date | None = None,
    rounds: int | None = None,
) -> dg.ExecuteInProcessResult:
    """Runs a job of the feed over one day, or a range of them."""
    definition = definitions.resolve_job_def(f"{SOURCE}_{job}")
    config = _QUIET | ({"ops": {f"{SOURCE}_quotes": {"config": {"rounds": rounds}}}} if rounds else {})
    which = {"tags": range_tags(first, last)} if last else {"partition_key": str(first)}
    return definition.execute_in_process(instance=instance, raise_on_error=False, run_config=config, **which)


def served_by(lake: FeedLake, rounds: int, every: float = EVERY_S) -> Totals:
    """So many rounds of the service."""
    feed = lake.described.changed(poll_interval_s=every)
    return asyncio.run(poll(Lake.open(), feed, asyncio.Event(), rounds=rounds))


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, object]:
    """The metadata of a run's last materialization of an asset of the feed."""
    events = [
        event.step_materialization_data.materialization
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey([SOURCE, asset])
    ]
    return {name: value.value for name, value in events[-1].metadata.items()}


def assert_stored(lake: FeedLake, feed: QuoteFeed) -> None:
    """Each quote that was served is there once, and the windows are what the quotes give."""
    assert_served_and_stored(lake, feed.served)
    assert_same(lake.windows, closed_windows(lake.told()))


def tell_days(lake: FeedLake, days: Sequence[date]) -> None:
    """Some minutes of quotes on each of these days, and a quote on the day after, which closes their windows."""
    for number, day in enumerate(days):
        opens = datetime(day.year, day.month, day.day, 15, tzinfo=UTC)
        lake.tell(
            said(symbol, opens + timedelta(seconds=10 * step + place), 100.0 + number + step / 8 + place)
            for step in range(30)
            for place, symbol in enumerate(SYMBOLS)
        )
    lake.tell([said("AAPL", datetime(*(days[-1] + timedelta(days=1)).timetuple()[:3], 1, tzinfo=UTC), 99.0)])


# Jobs


def test_a_run_of_today_polls_stores_and_makes_windows(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    lake: FeedLake,
    feed: QuoteFeed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One of the symbols is unknown to the vendor, which is told, and holds nothing back."""
    monkeypatch.setenv("LAKEHOUSE_IEX_SYMBOLS", ",".join([*SYMBOLS, "NOPE"]))
    settings.cache_clear()
    result = run(definitions, instance, "rounds", today(), rounds=6)

    assert result.success
    assert failed_checks(result).keys() == {f"{SOURCE}/quotes polls_answered"}
    assert_stored(lake, feed)
    assert lake.windows.height > 0
    key = str(today())
    assert materialized(result) == {f"{SOURCE}/{table}": [key] for table in TABLES}
    facts = metadata_of(result, "quotes")
    assert (facts["rounds"], facts["stored"]) == (6, lake.quotes.height)
    assert facts["errors"] == lake.errors.height >= 6
    assert facts["received"] == facts["stored"] + facts["repeated"] == 6 * (len(SYMBOLS) + 1) - facts["errors"]
    for table in TABLES:
        rows = lake.stored(table).filter(pl.col("day") == today())
        assert metadata_of(result, table)["dagster/partition_row_count"] == rows.height
    made_from = metadata_of(result, "quote_windows")["dagster/column_lineage"].deps_by_column["mean_price"]
    assert {(*each.asset_key.path, each.column_name) for each in made_from} == {(SOURCE, "quotes", "latest_price")}
    evaluated = {(found.asset_key.path[-1], found.check_name) for found in result.get_asset_check_evaluations()}
    assert {("quote_windows", "consistent_with_quotes"), ("quotes", "key_is_unique")} <= evaluated
    assert TOKEN not in "".join(str(event) for event in instance.all_logs(result.run_id))


def test_a_run_to_which_nobody_answers_fails_and_keeps_nothing_fresh(
    definitions: dg.Definitions, instance: dg.DagsterInstance, lake: FeedLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_IEX_SYMBOLS", "NOPE")
    settings.cache_clear()
    result = run(definitions, instance, "rounds", today(), rounds=2)

    assert not result.success
    assert lake.errors.height == 2
    assert materialized(result) == {f"{SOURCE}/poll_errors": [str(today())]}
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "No quote came in 2 rounds: 0 answers were refused, 2 tries had none" in str(failure.step_failure_data)


def test_the_service_and_a_run_after_each_other_are_one_table(
    definitions: dg.Definitions, instance: dg.DagsterInstance, lake: FeedLake, feed: QuoteFeed
) -> None:
    first = served_by(lake, 3)
    result = run(definitions, instance, "rounds", today(), rounds=3)
    again = served_by(lake, 3)

    assert result.success
    by_the_run = metadata_of(result, "quotes")["stored"]
    assert isinstance(by_the_run, int)
    assert min(first.stored, by_the_run, again.stored) > 0
    assert first.stored + by_the_run + again.stored == lake.quotes.height
    assert lake.restart().rows_changed == 0
    assert_stored(lake, feed)


def test_a_past_day_is_only_reported(
    definitions: dg.Definitions, instance: dg.DagsterInstance, lake: FeedLake, feed: QuoteFeed
) -> None:
    days = [today() - timedelta(days=back) for back in (4, 3)]
    tell_days(lake, days)
    versions = lake.versions()
    result = run(definitions, instance, "rounds", days[0])

    assert result.success
    assert sum(feed.requests.values()) == 0
    assert lake.versions() == versions
    assert materialized(result) == {f"{SOURCE}/{table}": [str(days[0])] for table in TABLES}
    assert metadata_of(result, "quotes")["dagster/partition_row_count"] == 150
    assert "rounds" not in metadata_of(result, "quotes")


def test_a_backfill_of_windows_makes_them_again_from_the_quotes(
    definitions: dg.Definitions, instance: dg.DagsterInstance, lake: FeedLake
) -> None:
    days = [today() - timedelta(days=back) for back in (7, 6, 5, 4)]
    tell_days(lake, days)
    whole = lake.windows
    assert set(whole["day"]) >= set(days)
    table = DeltaTable(lake.lake.table(f"{SOURCE}/quote_windows").uri)
    for day, work in zip(days, (_raise, table.delete, _raise, _revise), strict=True):
        work = work if work == table.delete else work(table)
        work(f"day = '{day}'")
    tampered = lake.windows
    assert tampered.height < whole.height
    result = run(definitions, instance, "day", days[1], days[-1])

    assert result.success
    assert failed_checks(result) == {}
    mended = lake.windows
    assert_frame_equal(mended.filter(pl.col("day") > days[0]), whole.filter(pl.col("day") > days[0]))
    # A day that wasn't asked for is as it was left.
    left = pl.col("day") == days[0]
    assert_frame_equal(mended.filter(left), tampered.filter(left))
    assert not mended.filter(left).equals(whole.filter(left))
    reported = {f"{SOURCE}/{asset}": [str(day) for day in days[1:]] for asset in ("quote_windows", "compaction")}
    assert materialized(result) == reported
    assert metadata_of(result, "quote_windows")["windows_changed"] > 0


def _raise(table: DeltaTable) -> Callable[[str], object]:
    return lambda where: table.update({"mean_price": "mean_price + 0.001"}, predicate=where)


def _revise(table: DeltaTable) -> Callable[[str], object]:
    return lambda where: table.update({"revision": "revision + 1"}, predicate=f"{where} AND symbol = 'NIO'")


def test_a_tampered_window_is_found_and_blocks(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    lake: FeedLake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One window of a day is changed between its derivation and its check."""
    day = today() - timedelta(days=3)
    tell_days(lake, [day])
    derive = feed_assets.derive_days

    def tampering(*arguments: object, **named: object) -> object:
        made = derive(*arguments, **named)  # type: ignore[arg-type]
        row = lake.windows.filter(pl.col("day") == day).row(77, named=True)
        table = DeltaTable(lake.lake.table(f"{SOURCE}/quote_windows").uri)
        where = f"day = '{day}' AND symbol = '{row['symbol']}' AND resolution_minutes = {row['resolution_minutes']}"
        changed = table.update(
            {"last_price": "min_price", "percentage_gain": "percentage_gain + 0.5"},
            predicate=f"{where} AND window_end = '{row['window_end'].isoformat()}'",
        )
        assert changed["num_updated_rows"] == 1
        return made

    monkeypatch.setattr(feed_assets, "derive_days", tampering)
    result = run(definitions, instance, "day", day)

    assert not result.success
    count = lake.windows.filter(pl.col("day") == day).height
    said = f"1 of {count:,} windows differ from what the quotes give"
    assert failed_checks(result) == {f"{SOURCE}/quote_windows consistent_with_quotes": said}
    assert set(materialized(result)) == {f"{SOURCE}/quote_windows"}
    # The next run mends it.
    monkeypatch.setattr(feed_assets, "derive_days", derive)
    again = run(definitions, instance, "day", day)
    assert again.success
    assert metadata_of(again, "quote_windows")["windows_changed"] == 1


@pytest.mark.soak
def test_hundreds_of_files_become_few_while_the_stream_goes_on(
    definitions: dg.Definitions, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    feed = QuoteFeed(RandomQuotes(SYMBOLS, seed=8), token=TOKEN)
    with polled(tmp_path / "home", feed, SYMBOLS) as lake:
        _commit_each(lake, COMMITS)
        before, stop, told = lake.quotes, threading.Event(), list[Round]()
        service = threading.Thread(target=_until, args=(lake, stop, told))
        service.start()
        try:
            wait_until(lambda: len(told) >= 3)
            result = run(definitions, instance, "day", today())
            rounds = len(told)
            wait_until(lambda: len(told) >= rounds + 3)
        finally:
            stop.set()
            service.join()
        after, served = lake.quotes, feed.served
        assert_same(lake.windows, closed_windows(lake.told()))
        files = lake.lake.table(f"{SOURCE}/quotes").snapshot().files()

    assert result.success
    assert failed_checks(result) == {}
    assert [made.trouble for made in told] == [None] * len(told)
    facts = metadata_of(result, "compaction")
    assert facts["quotes_files_before"] >= COMMITS
    # One, and what was appended meanwhile.
    assert facts["quotes_files_after"] <= 1 + len(told)
    assert len(files) <= 2 + len(told)
    kept = after.join(before, on=["symbol", "event_time"], how="semi")
    assert_frame_equal(kept, before)
    assert_served_and_stored(lake, served, of=SYMBOLS)


def test_the_day_under_way_is_compacted_each_hour(
    definitions: dg.Definitions, instance: dg.DagsterInstance, lake: FeedLake
) -> None:
    schedule = definitions.resolve_schedule_def(f"{SOURCE}_compact")

    def asked() -> int:
        context = dg.build_schedule_context(instance=instance, scheduled_execution_time=datetime.now(UTC))
        return len(schedule.evaluate_tick(context).run_requests or [])

    assert asked() == 0
    _commit_each(lake, 40)
    assert asked() == 1
    before = lake.quotes
    job = definitions.resolve_job_def(f"{SOURCE}_hour")
    result = job.execute_in_process(instance=instance, raise_on_error=False, run_config=_QUIET)
    assert result.success
    facts = metadata_of(result, "rolling_compaction")
    assert (facts["quotes_files_before"], facts["quotes_files_after"]) == (40, 1)
    assert_frame_equal(lake.quotes, before)
    # A log that was open meanwhile goes on.
    assert lake.store([said("AMC", datetime.now(UTC), 9.0)]).quotes.height == 1


def _commit_each(lake: FeedLake, commits: int) -> None:
    """Quotes of the last minutes, in a commit each."""
    newest = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=5)
    first = newest - timedelta(seconds=commits / 2)
    lake.store([said("AMC", first, 4.0)])
    (row,) = lake.quotes.to_dicts()
    table = lake.lake.table(f"{SOURCE}/quotes")
    for number in range(1, commits):
        moment = first + timedelta(seconds=number / 2)
        ingested_at = row["ingested_at"] + timedelta(milliseconds=number)
        news = row | {"event_time": moment, "day": moment.date(), "ingested_at": ingested_at, "latest_price": number}
        frame = pl.DataFrame([news], schema=pl.Schema(table.contract.arrow_schema))
        table.snapshot().append(frame.to_arrow(), [table.name])
    # Later than the last of these moments is what the service stores.
    time.sleep(commits / 1000)


def _until(lake: FeedLake, stop: threading.Event, told: list[Round]) -> None:
    async def service() -> None:
        ends = asyncio.Event()
        feed = lake.described.changed(poll_interval_s=EVERY_S)
        running = asyncio.create_task(poll(Lake.open(), feed, ends, told=told.append))
        await asyncio.to_thread(stop.wait)
        ends.set()
        await running

    asyncio.run(service())


# Freshness


def test_the_service_tells_dagster_and_when_it_ends_freshness_fails(
    definitions: dg.Definitions, lake: FeedLake, feed: QuoteFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(settings().dagster_home))
    console = Console(file=StringIO())
    run_stream(console, lake.described, rounds=6, poll_interval_s=EVERY_S, listens=False)

    with dg.DagsterInstance.get() as instance:
        events = {table: instance.fetch_materializations(dg.AssetKey([SOURCE, table]), limit=10).records
                  for table in TABLES}  # fmt: skip
        # A busy machine may be too slow for some polls; then these are reported, and stored.
        tries = [record.asset_materialization for record in events["poll_errors"]]
        missed = sum(event.metadata["tries_without_an_answer"].value for event in tries if event)
        assert missed == lake.errors.height
        assert events["quote_windows"]
        told = [record.asset_materialization for record in events["quotes"]]
        assert {record.event_log_entry.run_id for record in events["quotes"]} == {""}
        assert {event.partition for event in told if event} == {str(today())}
        facts = [{name: value.value for name, value in event.metadata.items()} for event in told if event]
        assert sum(fact["rounds"] for fact in facts) == 6
        assert sum(fact["quotes_stored"] for fact in facts) == lake.quotes.height
        lag = lake.quotes.filter(pl.col("ingested_at") == lake.quotes["ingested_at"].max())
        assert facts[0]["lag_s"] == pytest.approx(
            (lag["ingested_at"] - lag["event_time"]).min().total_seconds(), abs=1e-3
        )

        latest = events["quotes"][0].timestamp
        node = definitions.resolve_asset_graph().get(dg.AssetKey([SOURCE, "quotes"]))

        def state(seconds: float) -> FreshnessState:
            context = LoadingContextForTest(instance)
            with freeze_time(latest + seconds):
                return asyncio.run(TimeWindowFreshnessPolicyEvaluator().evaluate_freshness(context, node))

        fresh = lake.described.config.freshness_s
        assert [state(seconds) for seconds in (0, fresh - 0.1, fresh + 0.1)] == [
            *(FreshnessState.PASS, FreshnessState.PASS, FreshnessState.FAIL)
        ]
        graph, stopped = definitions.resolve_asset_graph(), datetime.fromtimestamp(latest + fresh + 0.1, UTC)
        assert [alert.subject for alert in stale_assets(instance, graph, stopped)] == [f"{SOURCE}/quotes is stale"]
    with dg.DagsterInstance.ephemeral() as instance:
        assert state(0) == FreshnessState.UNKNOWN


# Sensor and schedule


def ask_sensor(definitions: dg.Definitions, instance: dg.DagsterInstance) -> tuple[list[dg.RunRequest], str | None]:
    with dg.build_sensor_context(instance=instance, resources=lake_resources()) as context:
        found = definitions.resolve_sensor_def(f"{SOURCE}_poll").evaluate_tick(context)
    return list(found.run_requests or []), found.skip_message


def test_the_sensor_asks_for_one_run_at_a_time(
    definitions: dg.Definitions, instance: dg.DagsterInstance, lake: FeedLake
) -> None:
    (request,), _ = ask_sensor(definitions, instance)
    assert request.tags[PARTITION_TAG] == str(today())

    job = definitions.resolve_job_def(f"{SOURCE}_rounds")
    for status in (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED):
        run_ = instance.create_run_for_job(job_def=job, tags=request.tags, status=status)
        assert ask_sensor(definitions, instance) == ([], "a run of rounds is under way")
        instance.delete_run(run_.run_id)
    # One that has ended, well or not, or one of another job holds nothing up.
    for status in (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE):
        instance.create_run_for_job(job_def=job, tags=request.tags, status=status)
    other = definitions.resolve_job_def(f"{SOURCE}_day")
    instance.create_run_for_job(job_def=other, status=dg.DagsterRunStatus.STARTED)
    assert len(ask_sensor(definitions, instance)[0]) == 1


def test_without_a_token_the_sensor_holds_back(
    definitions: dg.Definitions, instance: dg.DagsterInstance, lake: FeedLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IEX_TOKEN")
    requests, skipped = ask_sensor(definitions, instance)
    assert requests == []
    assert skipped == "IEX_TOKEN is not set, so that iex can't be asked"


@pytest.mark.parametrize("hour", [0, 5])
def test_the_schedule_closes_the_day_before(
    hour: int, definitions: dg.Definitions, instance: dg.DagsterInstance, lake: FeedLake
) -> None:
    days = [date(2026, 3, 4), date(2026, 3, 6)]
    tell_days(lake, days)
    asked = {}
    schedule = definitions.resolve_schedule_def(f"{SOURCE}_close_day")
    for day in range(4, 9):
        moment = datetime(2026, 3, day, hour, 30, tzinfo=UTC)
        context = dg.build_schedule_context(instance=instance, scheduled_execution_time=moment)
        found = schedule.evaluate_tick(context)
        asked[day] = [(request.run_key, request.tags[PARTITION_TAG]) for request in found.run_requests or []]
        if not found.run_requests:
            assert found.skip_message == f"iex has no quotes of {moment.date() - timedelta(days=1)}"
    # The quote that closes the last windows is of the 7th.
    assert asked == {4: [], **{day + 1: [(f"2026-03-0{day}",) * 2] for day in (4, 6, 7)}, 6: []}
