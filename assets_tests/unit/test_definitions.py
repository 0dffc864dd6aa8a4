"""What Dagster loads of the market and of the lake itself: the assets and what is said of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy

from assets_tests.support.exchange_lake import code_location
from lakehouse.catalog import source_named, sources
from lakehouse.settings import settings
from lakehouse.warehouse.parts import parts

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::dagster.BetaWarning")]

ASSETS = """
alpha_vantage/bars              <- (alpha_vantage/raw_bars)              alpha_vantage deltalake duckdb
alpha_vantage/corporate_actions <- (alpha_vantage/raw_daily)             alpha_vantage deltalake duckdb
alpha_vantage/daily_bars        <- (alpha_vantage/bars)                  alpha_vantage deltalake duckdb
alpha_vantage/official_daily    <- (alpha_vantage/raw_daily)             alpha_vantage deltalake duckdb
alpha_vantage/raw_bars          <- ()                                    alpha_vantage deltalake polars
alpha_vantage/raw_daily         <- ()                                    alpha_vantage deltalake polars
alpha_vantage/reconciliation    <- (ACTIONS, alpha_vantage/daily_bars, OFFICIAL) alpha_vantage duckdb
binance/bars                    <- (binance/raw_bars)                    binance    deltalake duckdb
binance/daily_bars              <- (binance/bars)                        binance    deltalake duckdb
binance/raw_bars                <- ()                                    binance    deltalake polars
calendar/sessions               <- ()                                    warehouse  duckdb
calendar/venues                 <- ()                                    warehouse  duckdb
iex/compaction                  <- (iex/quotes, iex/quote_windows)       iex        deltalake
iex/poll_errors                 <- ()                                    iex        deltalake polars
iex/quote_windows               <- (iex/quotes)                          iex        deltalake duckdb
iex/quotes                      <- ()                                    iex        deltalake polars
iex/rolling_compaction          <- (iex/quotes, iex/quote_windows)       iex        deltalake
lake/ingest_ledger              <- (RAW_TABLES)                          lake       deltalake
lake/maintenance                <- ()                                    lake       deltalake
lake/quarantine                 <- (RAW_TABLES)                          lake       deltalake
lake/skipped_objects            <- (RAW_TABLES)                          lake       deltalake
marts/average_range             <- (marts/dim_instrument, marts/fct_daily_bar) warehouse dbt duckdb
marts/bridge_instrument_identifier <- (marts/dim_instrument) warehouse dbt duckdb
marts/daily_movers              <- (marts/daily_summary)                 warehouse  dbt duckdb
marts/daily_summary             <- (marts/dim_instrument, marts/fct_daily_bar, marts/returns) warehouse dbt duckdb
marts/dim_instrument            <- (ALL_ACTIONS, DAILY_BARS, calendar/venues) warehouse dbt duckdb
marts/dim_issuer                <- ()                                    warehouse  dbt duckdb
marts/dim_resolution            <- ()                                    feed_warehouse dbt duckdb
marts/dim_session               <- (calendar/sessions, calendar/venues)  warehouse  dbt duckdb
marts/dim_venue                 <- (calendar/venues)                     warehouse  dbt duckdb
marts/fct_corporate_action      <- (ALL_ACTIONS, ALL_OFFICIAL, calendar/venues, marts/dim_instrument) warehouse dbt duckdb
marts/fct_daily_bar             <- (ALL_ACTIONS, DAILY_BARS, ALL_OFFICIAL, calendar/venues, marts/dim_instrument) warehouse dbt duckdb
marts/fct_quote_window          <- (iex/compaction, iex/quote_windows)   feed_warehouse dbt duckdb
marts/most_traded_by_value      <- (marts/daily_summary)                 warehouse  dbt duckdb
marts/percentage_gains          <- (marts/fct_quote_window)              feed_warehouse dbt duckdb
marts/returns                   <- (marts/fct_corporate_action, marts/fct_daily_bar) warehouse dbt duckdb
marts/top_stocks                <- (marts/dim_resolution, marts/fct_quote_window) feed_warehouse dbt duckdb
wiki/corporate_actions          <- (wiki/raw_daily)                      wiki       deltalake duckdb
wiki/official_daily             <- (wiki/raw_daily)                      wiki       deltalake duckdb
wiki/raw_daily                  <- ()                                    wiki       deltalake polars
xetra/bars                      <- (xetra/raw_bars)                      xetra      deltalake duckdb
xetra/daily_bars                <- (xetra/bars)                          xetra      deltalake duckdb
xetra/daily_report              <- (xetra/daily_bars)                    xetra      parquet
xetra/raw_bars                  <- ()                                    xetra      deltalake polars
"""  # noqa: E501
SHORT = {
    "ALL_ACTIONS": "alpha_vantage/corporate_actions, wiki/corporate_actions",
    "ALL_OFFICIAL": "alpha_vantage/official_daily, wiki/official_daily",
    "ACTIONS": "alpha_vantage/corporate_actions",
    "OFFICIAL": "alpha_vantage/official_daily",
    "RAW_TABLES": "alpha_vantage/raw_bars, alpha_vantage/raw_daily, binance/raw_bars, wiki/raw_daily, xetra/raw_bars",
    # What is published has been reconciled before, where a source has a second series.
    "DAILY_BARS": "alpha_vantage/daily_bars, alpha_vantage/reconciliation, binance/daily_bars, xetra/daily_bars",
}
SOURCES = {"alpha_vantage", "binance", "xetra"}
"""The sources of bars."""
DAILY = "wiki"
"""The source that has a daily series alone."""
FEED = "iex"
FEED_MARTS = {f"marts/{name}" for name in ("dim_resolution", "fct_quote_window", "percentage_gains", "top_stocks")}
BAR_CHECKS = """
{}/bars        conservation!  contract!  key_is_unique!  labels_fit_hours  no_suspect_bars  venue_agrees
{}/daily_bars  consistent_with_bars!  contract!  enough_rows_kept!  instruments_present  key_is_unique!  session_reaches_close  volume_usual
"""  # noqa: E501
OTHER_CHECKS = """
alpha_vantage/raw_bars           contract!  few_rows_refused  key_is_unique!  objects_readable  readings_current  rows_entered  session_complete
binance/raw_bars                 contract!  few_rows_refused  key_is_unique!  objects_known  objects_readable  readings_current  rows_entered  session_complete
xetra/raw_bars                   contract!  few_rows_refused  key_is_unique!  objects_known  objects_readable  readings_current  rows_entered  session_complete
alpha_vantage/raw_daily          contract!  few_rows_refused  key_is_unique!  objects_readable  readings_current  rows_entered
alpha_vantage/official_daily     conservation!  contract!  enough_rows_kept!  key_is_unique!
alpha_vantage/corporate_actions  contract!  key_is_unique!
alpha_vantage/reconciliation     reconciles
wiki/raw_daily                   contract!  few_rows_refused  key_is_unique!  objects_known  objects_readable  readings_current  rows_entered
wiki/official_daily              conservation!  contract!  enough_rows_kept!  key_is_unique!  venue_agrees
wiki/corporate_actions           contract!  key_is_unique!
iex/quotes                       contract!  few_rows_refused  key_is_unique!  polls_answered
iex/quote_windows                consistent_with_quotes!  contract!  key_is_unique!
"""  # noqa: E501
"""Blocking checks end in an exclamation mark."""


def of_other_domains() -> set[str]:
    """The sources of other domains, analyses and reports, which have tests of their own."""
    return {
        "analyses",
        "reports",
        *(name for name, source in sources().items() if source.kind not in ("market", "feed")),
    }


def is_known(graph: dg.AssetGraph, key: dg.AssetKey) -> bool:
    """Whether an asset is of the market domain, or of none."""
    others = {part.group for part in parts() if part.schema not in ("market", "feed")}
    return key.path[0] not in of_other_domains() and graph.get(key).group_name not in others


def keys_of(graph: dg.AssetGraph) -> list[dg.AssetKey]:
    return sorted(key for key in graph.get_all_asset_keys() if is_known(graph, key))


def spelt_out(line: str) -> str:
    """A line of ASSETS with its abbreviations written out, its parents sorted and single blanks."""
    key, _, rest = " ".join(line.split()).partition(" <- (")
    parents, _, what = rest.partition(")")
    for name, meaning in SHORT.items():
        parents = parents.replace(name, meaning)
    return f"{key} <- ({', '.join(sorted(parents.split(', ')))}){what}"


WANTED = [spelt_out(line) for line in ASSETS.strip().splitlines()]
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where dbt's parsed project and the calendar are kept."""
    folder = tmp_path_factory.mktemp("definitions")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LAKEHOUSE_HOME", str(folder))
        settings.cache_clear()
        code_location()
    settings.cache_clear()
    return folder


@pytest.fixture(scope="module")
def graph(home: Path) -> dg.AssetGraph:
    return code_location().resolve_asset_graph()  # type: ignore[return-value]


def test_the_assets_are_these(graph: dg.AssetGraph) -> None:
    found = []
    for key in keys_of(graph):
        node = graph.get(key)
        known = [parent for parent in node.parent_keys if parent.path[0] not in of_other_domains()]
        parents = ", ".join(sorted(parent.to_user_string() for parent in known))
        found.append(f"{key.to_user_string()} <- ({parents}) {node.group_name} {' '.join(sorted(node.kinds))}")
    assert found == WANTED


def test_every_asset_says_what_it_is_and_whose(graph: dg.AssetGraph) -> None:
    for key in keys_of(graph):
        node = graph.get(key)
        assert node.owners == ["team:market-data"], key
        assert node.description, key
        assert (node.code_version is not None) == (key.path[0] in {"marts", FEED, DAILY, *SOURCES}), key
    fresh = [key.to_user_string() for key in keys_of(graph) if graph.get(key).freshness_policy]
    assert set(fresh) == {*(f"{source}/daily_bars" for source in SOURCES), f"{FEED}/quotes"}
    by_themselves = {key.path[0] for key in keys_of(graph) if graph.get(key).automation_condition}
    assert by_themselves == {"marts"}


def test_the_checks_are_these(graph: dg.AssetGraph) -> None:
    lines = [*OTHER_CHECKS.splitlines(), *(line.format(name) for name in SOURCES for line in BAR_CHECKS.splitlines())]
    wanted = {line.split()[0]: line.split()[1:] for line in lines if line}
    found: dict[str, list[str]] = {}
    for key in sorted(key for key in graph.asset_check_keys if is_known(graph, key.asset_key)):
        blocking = graph.get_check_spec(key).blocking
        found.setdefault(key.asset_key.to_user_string(), []).append(key.name + "!" * blocking)
    marts = {asset: found.pop(asset) for asset in list(found) if asset.startswith("marts/")}
    assert found == wanted
    assert len(marts) == 16
    assert all(check.endswith("!") for checks in marts.values() for check in checks)


def test_jobs_sensors_and_schedules() -> None:
    repository = code_location().get_repository_def()
    updates = {f"{source}_{what}" for source in (DAILY, *SOURCES) for what in ("update", "reload")}
    others = ("run_analysis", *(f"{name}_" for name in of_other_domains()))
    assert {job.name for job in repository.get_all_jobs() if not job.name.startswith(others)} == {
        *("__ASSET_JOB", "lake_maintenance", f"{FEED}_rounds", f"{FEED}_day", f"{FEED}_hour", *updates)
    }
    running, stopped = dg.DefaultSensorStatus.RUNNING, dg.DefaultSensorStatus.STOPPED
    sensors = {(sensor.name, sensor.default_status) for sensor in repository.sensor_defs}
    assert {each for each in sensors if not each[0].startswith(others)} == {
        *(("marts_automation", running), ("alerts", running), ("xetra_objects", running), ("binance_objects", running)),
        ("wiki_objects", running),
        # A feed is polled by its service: a sensor beside it would ask the vendor twice.
        ("iex_poll", stopped),
    }
    # An API has no objects to look at: it is asked after each close, and once a month about what it may have corrected.
    assert {
        (schedule.job_name, schedule.cron_schedule, schedule.execution_timezone)
        for schedule in repository.schedule_defs
        if not schedule.name.startswith(others)
    } == {
        ("lake_maintenance", "0 3 * * *", "UTC"),
        ("iex_day", "30 0 * * *", "UTC"),
        ("iex_hour", "5 * * * *", "UTC"),
        ("alpha_vantage_update", "30 20 * * *", "America/New_York"),
        ("alpha_vantage_update", "30 22 3 * *", "America/New_York"),
    }
    started = {schedule.default_status for schedule in repository.schedule_defs}
    assert started == {dg.DefaultScheduleStatus.RUNNING}
    assets = {line.split()[0] for line in WANTED}
    for source in (DAILY, *SOURCES):
        job = code_location().resolve_job_def(f"{source}_update")
        selected = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
        assert selected == {asset for asset in assets if asset.startswith((f"{source}/", "marts/"))} - FEED_MARTS
        assert job.executor_def.name == "in_process"
    for job_name, tables in (
        (f"{FEED}_rounds", ("quotes", "poll_errors", "quote_windows")),
        (f"{FEED}_day", ("quote_windows", "compaction")),
        (f"{FEED}_hour", ("rolling_compaction",)),
    ):
        job = code_location().resolve_job_def(job_name)
        selected = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
        assert selected == {f"{FEED}/{table}" for table in tables}
        assert job.executor_def.name == "in_process"


def test_a_feed_is_partitioned_by_days_and_counts_as_stopped_after_two_minutes(graph: dg.AssetGraph) -> None:
    for table in ("quotes", "poll_errors", "quote_windows", "compaction"):
        node = graph.get(dg.AssetKey([FEED, table]))
        partitions, backfill = node.partitions_def, node.backfill_policy
        assert partitions is not None
        assert backfill == dg.BackfillPolicy.single_run()
        with dg.partition_loading_context(effective_dt=datetime(2026, 3, 1, 0, 0, 1, tzinfo=ZoneInfo("UTC"))):
            keys = partitions.get_partition_keys()
        # Today is a partition from its first second on.
        assert (keys[0], keys[-1], len(keys)) == ("2026-01-01", "2026-03-01", 60)
    policy = graph.get(dg.AssetKey([FEED, "quotes"])).freshness_policy
    assert isinstance(policy, TimeWindowFreshnessPolicy)
    assert policy.fail_window.to_timedelta() == timedelta(minutes=2)


@pytest.mark.parametrize("table", ["raw_bars", "bars", "daily_bars"])
def test_the_column_schema_is_the_contract(graph: dg.AssetGraph, table: str) -> None:
    schema = graph.get(dg.AssetKey(["xetra", table])).metadata["dagster/column_schema"]
    contract = source_named("xetra").contract(table)
    found = [(column.name, column.type, column.description, column.constraints.nullable) for column in schema.columns]
    assert found == [
        (column.name, str(column.type), column.description, column.nullable) for column in contract.columns
    ]
    units = {column.name: list(column.constraints.other) for column in schema.columns}
    assert units == {column.name: [f"unit: {column.unit}"] if column.unit else [] for column in contract.columns}
    metadata = graph.get(dg.AssetKey(["xetra", table])).metadata
    assert metadata["dagster/table_name"] == f"xetra.{table}"
    assert metadata["key"] == ", ".join(contract.key)


@pytest.mark.parametrize(
    ("now", "last"),
    [
        (datetime(2017, 6, 19, 9, 0), date(2017, 6, 19)),
        (datetime(2024, 3, 28, 0, 1), date(2024, 3, 28)),  # the day has begun, and objects come during the session
        (datetime(2024, 3, 28, 23, 59), date(2024, 3, 28)),
        (datetime(2024, 4, 6, 12, 0), date(2024, 4, 5)),  # a Saturday
        (datetime(2024, 10, 27, 2, 30), date(2024, 10, 25)),  # the Sunday on which the clocks change
        (datetime(2024, 10, 28, 0, 30), date(2024, 10, 28)),
        (datetime(2024, 12, 30, 10, 0), date(2024, 12, 30)),  # a half day
        (datetime(2026, 7, 1, 23, 30), date(2026, 7, 1)),
    ],
)
def test_the_partitions_are_the_sessions_up_to_today(graph: dg.AssetGraph, now: datetime, last: date) -> None:
    import exchange_calendars

    partitions = graph.get(dg.AssetKey(["xetra", "raw_bars"])).partitions_def
    assert partitions is not None
    with dg.partition_loading_context(effective_dt=now.replace(tzinfo=BERLIN)):
        keys = partitions.get_partition_keys()
    calendar = exchange_calendars.get_calendar("XETR", start="2017-06-19", end="2026-12-31")
    assert keys == [f"{session.date()}" for session in calendar.sessions if session.date() <= last]


def test_on_a_holiday_the_next_session_is_there_already(graph: dg.AssetGraph) -> None:
    """Dagster counts its windows by the cron schedule, holidays included: that one may wait for its objects."""
    partitions = graph.get(dg.AssetKey(["xetra", "raw_bars"])).partitions_def
    assert partitions is not None
    for day in (29, 31):
        with dg.partition_loading_context(effective_dt=datetime(2024, 3, day, 12, tzinfo=BERLIN)):
            assert partitions.get_partition_keys()[-2:] == ["2024-03-28", "2024-04-02"]
