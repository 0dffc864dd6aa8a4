"""A vendor's API as Dagster sees it: what a run asks for and reports, what its checks look at, and what holds back the
marts. What the tables hold after faults and corrections is shown by the tests of the pipeline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple

import dagster as dg
import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox

from assets_tests.support.exchange_lake import ExchangeLake, code_location, failed_checks, materialized
from assets_tests.support.vendor_lake import (
    DAYS,
    KEY,
    NEW_YORK,
    SOURCE,
    VendorLake,
    asked_for,
    object_name,
    small_market,
    vendor_lake,
)
from lakehouse.catalog import DEFS
from lakehouse.components import MarketSource
from lakehouse.components.marts import mart_assets
from lakehouse.components.resources import lake_resources
from lakehouse.components.sources.run_tags import range_tags
from lakehouse.derive.rebuild import rebuild
from lakehouse.domains.market.corporate_actions.derive import OFFICIAL_TABLES
from lakehouse.settings import settings
from lakehouse.simulators.us_market import UsMarket
from lakehouse.simulators.vendor_answers import DAILY, INTRADAY
from lakehouse.simulators.vendor_api import VendorApi
from lakehouse.warehouse.dbt import manifest_path
from lakehouse.warehouse.parts import MARKET_MARTS
from lakehouse.warehouse.publish import differing_marts

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")

JOB = f"{SOURCE}_update"
MONTHS = ("2020-10", "2020-11")
OCTOBER, NOVEMBER = DAYS[:2], DAYS[2:]
BAR_TABLES = ("raw_bars", "bars", "daily_bars")
OFFICIAL = ("raw_daily", "official_daily", "corporate_actions")
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Vendor(NamedTuple):
    """A lake, the vendor beside it, and what the vendor knows."""

    lake: VendorLake
    jobs: ExchangeLake
    market: UsMarket

    def run(
        self, instance: dg.DagsterInstance, first: date, last: date | None = None, *, marts: bool = True
    ) -> dg.ExecuteInProcessResult:
        """Runs the source's job over one partition, or over a range of them; `marts` as for an ExchangeLake."""
        if last is not None or not marts:
            return self.jobs.run(instance, first, last or first, job=JOB, marts=marts)
        job = code_location().resolve_job_def(JOB)
        return job.execute_in_process(
            instance=instance, partition_key=str(first), raise_on_error=False, run_config=_QUIET
        )

    def closes(self, days: tuple[date, ...] = DAYS) -> dict[tuple[str, date], float]:
        """The close of the last traded regular minute, by symbol and session."""
        found = {}
        for bar in self.market.truth_bars().iter_rows(named=True):
            if bar["segment"] == "regular" and bar["volume"] > 0 and bar["session"] in days:
                found[bar["symbol"], bar["session"]] = bar["close"]
        return found

    def lines(self, days: tuple[date, ...]) -> int:
        """How many bars the vendor tells of these sessions."""
        return self.market.truth_bars()["session"].is_in(days).sum()

    def assert_published(self, days: tuple[date, ...] = DAYS) -> None:
        """The published bars are those of these sessions, and everything stored is what a rebuild would give."""
        rows = self.jobs.marts("SELECT instrument_id, session, close FROM fct_daily_bar ORDER BY ALL")
        assert {(symbol, session): close for symbol, session, close in rows} == self.closes(days)
        self.assert_stored(days)
        assert differing_marts(settings(), MARKET_MARTS) == []

    def assert_stored(self, days: tuple[date, ...] = DAYS) -> None:
        """The daily bars are those of these sessions, and everything stored is what a rebuild would give."""
        rows = self.lake.rows(f"{SOURCE}.daily_bars").select("symbol", "session", "close").rows()
        assert {(symbol, session): close for symbol, session, close in rows} == self.closes(days)
        rebuilt = rebuild(self.lake.lake, self.lake.described, verify=True)
        assert not rebuilt.differs
        assert {name: derived.rows_changed for name, derived in rebuilt.tables.items()} == dict.fromkeys(
            ("bars", "daily_bars", *OFFICIAL_TABLES), 0
        )


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, object]:
    """The metadata of a run's own materialization of an asset; sessions that came along are reported before it."""
    for event in reversed(result.get_asset_materialization_events()):
        if event.asset_key and event.asset_key.to_user_string() == f"{SOURCE}/{asset}":
            return {
                name: value.value for name, value in event.step_materialization_data.materialization.metadata.items()
            }
    raise AssertionError(f"{asset} was not materialized")


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """The evaluations of a run, by `<asset> <check>` of this source."""
    return {
        f"{found.asset_key.path[-1]} {found.check_name}": found
        for found in result.get_asset_check_evaluations()
        if found.asset_key.path[0] == SOURCE
    }


def reported(result: dg.ExecuteInProcessResult, *tables: str) -> dict[str, set[str | None]]:
    """The partitions that a run reported of these tables; none of them twice."""
    found = materialized(result)
    for table in tables:
        assert len(set(found[f"{SOURCE}/{table}"])) == len(found[f"{SOURCE}/{table}"]), table
    return {table: set(found[f"{SOURCE}/{table}"]) for table in tables}


def keys(days: tuple[date, ...]) -> set[str]:
    return {str(day) for day in days}


def records(table: str) -> list[dict[str, str]]:
    """The rows of a Markdown table."""
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return [dict(zip(header, row, strict=True)) for row in rows]


@contextmanager
def described(**changes: dict[str, object]) -> Iterator[dg.Definitions]:
    """What the source's YAML makes after changes of its entries, beside the marts."""
    document = yaml.safe_load((DEFS / "market" / SOURCE / "defs.yaml").read_text())
    for entry, changed in changes.items():
        document["attributes"][entry] |= changed
    with create_defs_folder_sandbox() as sandbox:
        folder = sandbox.scaffold_component(component_cls=MarketSource, defs_yaml_contents=document)
        with sandbox.load_component_and_build_defs(defs_path=folder) as (_, made):
            marts = mart_assets(MARKET_MARTS, manifest_path(settings()))
            beside = dg.Definitions(assets=[marts], resources=lake_resources(), executor=dg.in_process_executor)
            yield dg.Definitions.merge(made, beside)


@dataclass(frozen=True)
class Misprinted:
    """What a market's vendor tells, with misprints in the official series."""

    market: UsMarket
    misprints: Mapping[tuple[str, date], int]
    line_end = "\n"

    def intraday(self, symbol: str, month: str, adjusted: bool, extended: bool, now: datetime) -> list[str] | None:
        return self.market.intraday(symbol, month, adjusted, extended, now)

    def daily(self, symbol: str, now: datetime) -> list[str] | None:
        lines = self.market.daily(symbol, now)
        return lines and [lines[0], *(self._printed(symbol, line) for line in lines[1:])]

    def _printed(self, symbol: str, line: str) -> str:
        day, opened, high, *rest = line.split(",")
        points = self.misprints.get((symbol, date.fromisoformat(day)), 0)
        return ",".join([day, opened, f"{float(high) * (1 + points / 10_000):.4f}", *rest])


@pytest.fixture
def misprints() -> dict[tuple[str, date], int]:
    """By symbol and session: how many basis points too high the vendor's official series has the high."""
    return {}


@pytest.fixture
def vendor(exchange_lake: ExchangeLake, misprints: dict[tuple[str, date], int]) -> Iterator[Vendor]:
    """An empty lake beside a vendor of three symbols."""
    market = small_market()
    api = VendorApi(Misprinted(market, misprints), api_key=KEY)
    with vendor_lake(exchange_lake.home, api, market.symbols) as lake:
        yield Vendor(lake, exchange_lake, market)


def misprint(vendor: Vendor, misprints: dict[tuple[str, date], int]) -> None:
    """Twelve misprints, four a symbol: ten basis points and more, each another number."""
    found = [(symbol, day) for day in (*OCTOBER, *NOVEMBER[2:]) for symbol in vendor.market.symbols]
    misprints |= {about: 10 * number for number, about in enumerate(found, start=1)}
    assert len(misprints) == 12


def test_one_partition_asks_for_its_month_and_reports_the_others(vendor: Vendor, instance: dg.DagsterInstance) -> None:
    result = vendor.run(instance, NOVEMBER[2])

    assert result.success
    assert failed_checks(result) == {}
    symbols = vendor.market.symbols
    asked = Counter(asked_for(request) for request in vendor.lake.asked())
    assert asked == Counter([object_name(symbol, month) for symbol in symbols for month in ("2020-11", None)])
    assert reported(result, *BAR_TABLES) == dict.fromkeys(BAR_TABLES, keys(NOVEMBER))
    vendor.assert_published(NOVEMBER)
    # Every session that the answers were about was checked, not the run's alone.
    checks = checks_of(result)
    lines = vendor.lines(NOVEMBER)
    assert lines > vendor.lines(NOVEMBER[2:3])
    assert checks["bars conservation"].metadata["received"].value == lines
    assert metadata_of(result, "raw_bars")["rows_received"] == lines


def test_a_range_asks_for_each_of_its_months_once(vendor: Vendor, instance: dg.DagsterInstance) -> None:
    result = vendor.run(instance, OCTOBER[-1], NOVEMBER[0], marts=False)

    assert result.success
    asked = Counter((request.function, request.month) for request in vendor.lake.asked())
    assert asked == {(INTRADAY, "2020-10"): 3, (INTRADAY, "2020-11"): 3, (DAILY, ""): 3}
    assert reported(result, *BAR_TABLES) == dict.fromkeys(BAR_TABLES, keys(DAYS))


def assert_official_series_told(vendor: Vendor, result: dg.ExecuteInProcessResult) -> None:
    """The official series is in the same run as the bars, without partitions, and its tables are checked."""
    assert reported(result, *OFFICIAL, "reconciliation") == {name: {None} for name in (*OFFICIAL, "reconciliation")}
    graph = code_location().resolve_asset_graph()
    assert {name for name in OFFICIAL if graph.get(dg.AssetKey([SOURCE, name])).partitions_def} == set()
    truth = vendor.market.truth_daily()
    assert metadata_of(result, "official_daily")["dagster/row_count"] == truth.height == 3 * len(DAYS)
    actions = truth.filter((truth["dividend"] > 0) | (truth["split"] != 1)).height
    assert metadata_of(result, "corporate_actions")["dagster/row_count"] == actions > 0
    assert {f"{name} {check}" for name in OFFICIAL for check in ("contract", "key_is_unique")} < checks_of(
        result
    ).keys()


def test_a_correction_is_reported_for_its_session_and_the_next(vendor: Vendor, instance: dg.DagsterInstance) -> None:
    """The vendor corrects the last close of October; a run over another October session finds it."""
    first = vendor.run(instance, DAYS[0], DAYS[-1], marts=False)
    assert first.success
    assert failed_checks(first) == {}
    assert_official_series_told(vendor, first)
    asked, symbol = len(vendor.lake.asked()), vendor.market.symbols[0]
    bars = vendor.market.truth_bars().filter(symbol=symbol, session=OCTOBER[1], segment="regular")
    last = bars.filter(bars["volume"] > 0).row(-1, named=True)
    starts = last["start_at"].astimezone(NEW_YORK).time()
    vendor.market.correct(symbol, OCTOBER[1], starts, close=last["close"] + 0.01)
    result = vendor.run(instance, OCTOBER[0], marts=False)

    assert result.success
    assert {request.month for request in vendor.lake.asked(asked)} == {"2020-10", ""}
    assert reported(result, *BAR_TABLES) == {
        "raw_bars": keys(OCTOBER),
        "bars": keys(OCTOBER),
        "daily_bars": keys(DAYS[:3]),
    }
    assert metadata_of(result, "daily_bars")["rows_changed_by_run"] == 2
    vendor.assert_stored()

    again = vendor.run(instance, OCTOBER[0], marts=False)
    assert reported(again, *BAR_TABLES) == dict.fromkeys(BAR_TABLES, keys(OCTOBER[:1]))
    assert metadata_of(again, "raw_bars")["rows_received"] == 0


def test_a_symbol_that_fails_and_breaks_that_warn_hold_nothing_back(
    vendor: Vendor,
    instance: dg.DagsterInstance,
    misprints: dict[tuple[str, date], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    misprint(vendor, misprints)
    monkeypatch.setenv("LAKEHOUSE_ALPHA_VANTAGE_SYMBOLS", ",".join([*vendor.market.symbols, "NOPE"]))
    settings.cache_clear()
    result = vendor.run(instance, DAYS[0], DAYS[-1])

    assert result.success
    unreadable = {f"{SOURCE}/{table} objects_readable" for table in ("raw_bars", "raw_daily")}
    failed = failed_checks(result)
    assert failed.pop(f"{SOURCE}/reconciliation reconciles") == "12 breaks: 12 price"
    assert failed.keys() == unreadable
    for table, months in (("raw_bars", MONTHS), ("raw_daily", (None,))):
        named = str(checks_of(result)[f"{table} objects_readable"].metadata["rows"].value)
        assert all(f"| {object_name('NOPE', month)} |" in named for month in months)
        assert "Invalid API call" in named
    assert metadata_of(result, "raw_bars")["objects_failed"] == 2
    assert metadata_of(result, "raw_daily")["objects_failed"] == 1

    # The breaks are counted, and the worst are named.
    found = checks_of(result)["reconciliation reconciles"]
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert found.metadata["breaks_price"].value == 12
    worst = sorted(misprints, key=lambda about: -misprints[about])[:10]
    rows = records(str(found.metadata["worst"].value))
    assert [(row["symbol"], row["session"], row["kind"], row["field"]) for row in rows] == [
        (symbol, str(day), "price", "high") for symbol, day in worst
    ]
    # Ours is the right one, and lower by so much of theirs.
    deviations = [10_000 * (1 / (1 + misprints[about] / 10_000) - 1) for about in worst]
    assert [float(row["deviation_bp"]) for row in rows] == pytest.approx(deviations, abs=0.02)
    assert metadata_of(result, "reconciliation")["breaks"] == 12
    assert "deviations" in metadata_of(result, "reconciliation")
    vendor.assert_published()

    # A later run looks at the sessions that it touches.
    october = vendor.run(instance, OCTOBER[0], marts=False)
    assert failed_checks(october)[f"{SOURCE}/reconciliation reconciles"] == "6 breaks: 6 price"


def test_breaks_that_block_hold_back_the_marts(
    vendor: Vendor, instance: dg.DagsterInstance, misprints: dict[tuple[str, date], int]
) -> None:
    misprint(vendor, misprints)
    with described(reconciliation={"severity": "block"}) as definitions:
        job = definitions.resolve_job_def(JOB)

        def run() -> dg.ExecuteInProcessResult:
            tags = range_tags(DAYS[0], DAYS[-1])
            return job.execute_in_process(instance=instance, tags=tags, raise_on_error=False, run_config=_QUIET)

        held_back = run()
        assert not held_back.success
        assert failed_checks(held_back) == {f"{SOURCE}/reconciliation reconciles": "12 breaks: 12 price"}
        found = checks_of(held_back)["reconciliation reconciles"]
        assert (found.severity, found.blocking) == (dg.AssetCheckSeverity.ERROR, True)
        assert (found.metadata["breaks_price"].value, len(records(str(found.metadata["worst"].value)))) == (12, 10)
        (failure,) = [event.step_failure_data.error for event in held_back.all_events if event.is_step_failure]
        assert failure is not None
        assert "1 blocking asset check failed with ERROR severity" in failure.message
        assert f"{SOURCE}/reconciliation: reconciles" in failure.message
        assert not [asset for asset in materialized(held_back) if asset.startswith("marts/")]
        assert not vendor.jobs.warehouse.exists()
        # The lake itself has everything.
        assert all(keys(DAYS) <= found for found in reported(held_back, *BAR_TABLES).values())

        misprints.clear()
        published = run()
        assert published.success
        assert failed_checks(published) == {}
        assert vendor.jobs.marts("SELECT count(*) FROM fct_daily_bar") == [(len(vendor.closes()),)]


@pytest.mark.parametrize(
    ("adjusted", "said"),
    [
        (None, "arrive as traded"),
        ("false", "arrive as traded"),
        ("true", "arrive adjusted for splits and dividends as of each answer"),
    ],
)
def test_the_pages_say_whether_prices_arrive_adjusted(
    exchange_lake: ExchangeLake, monkeypatch: pytest.MonkeyPatch, adjusted: str | None, said: str
) -> None:
    if adjusted is not None:
        monkeypatch.setenv("LAKEHOUSE_ALPHA_VANTAGE_ADJUSTED", adjusted)
        settings.cache_clear()
    with described() as definitions:
        graph = definitions.resolve_asset_graph()
        told = {
            name: graph.get(dg.AssetKey([SOURCE, name])).metadata.get("prices") for name in (*BAR_TABLES, *OFFICIAL)
        }
    assert told == dict.fromkeys(BAR_TABLES, said) | dict.fromkeys(OFFICIAL)


def test_the_key_is_in_no_event(vendor: Vendor, instance: dg.DagsterInstance) -> None:
    """The vendor repeats it in a refusal, and that refusal is shown."""
    vendor.lake.api.fail(vendor.market.symbols[0], "information", function=INTRADAY)
    vendor.lake.api.fail(vendor.market.symbols[1], "error_message", function=DAILY)
    failed, mended = (vendor.run(instance, DAYS[0], marts=False) for _ in range(2))
    tables = ("raw_bars", "raw_daily")
    assert set(failed_checks(failed)) == {f"{SOURCE}/{table} objects_readable" for table in tables}
    assert failed_checks(mended) == {}

    runs = instance.get_runs()
    assert len(runs) == 2
    events = [entry.to_json() for run in runs for entry in instance.all_logs(run.run_id)]
    assert len(events) > 100
    assert any("We have detected your API key as" in event for event in events)
    assert [event for event in events if KEY in event] == []
    assert not any(KEY in str((run.tags, run.run_config)) for run in runs)
