"""A second venue is a second YAML: Eurex-like files, with nothing written in Python for them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox

from assets_tests.support.reference import isin
from lakehouse.api import Lake
from lakehouse.components import MarketSource
from lakehouse.components.resources import lake_resources

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")

# Derivatives: more columns than bars have, integer dates, strikes that futures lack, spreads with negative prices.
DEFS = yaml.safe_load(r"""
type: lakehouse.components.MarketSource
attributes:
  source: eurex
  description: Eurex one-minute bars
  owners: [team:market-data]
  tags: {domain: market}
  venue: {mic: XEUR, name: Eurex, country: DE, time_zone: Europe/Berlin, currency: EUR}
  calendar: XEUR
  first_session: 2017-06-19
  bars:
    objects:
      pattern: (?P<date>\d{8})_BINS_XEUR(?P<hour>\d{2})\.csv
      date_format: "%Y%m%d"
      holds: hour
    format: csv
    time: {columns: [Date, Time], format: "%Y%m%d %H:%M", zone: UTC, label: start}
    columns:
      instrument_id: ISIN
      symbol: UnderlyingSymbol
      instrument_type: SecurityType
      vendor_id: SecurityID
      currency: Currency
      open: StartPrice
      high: MaxPrice
      low: MinPrice
      close: EndPrice
      volume: NumberOfContracts
      trades: NumberOfTrades
  identifier: isin
  negative_prices: true
""")
HEADER = (
    "ISIN,MarketSegment,UnderlyingSymbol,Currency,SecurityType,MaturityDate,StrikePrice,PutOrCall,SecurityID,"
    "Date,Time,StartPrice,MaxPrice,MinPrice,EndPrice,NumberOfContracts,NumberOfTrades"
)
FUTURE, OPTION, SPREAD = isin("DE000F00001"), isin("DE000F00002"), isin("DE000F00003")
SESSION = date(2024, 3, 26)
ROWS = f"""\
{FUTURE},FDAX,DAX,EUR,FUT,20240621,,,11,20240326,08:00,18400,18410.5,18399,18405,12,7
{OPTION},ODAX,DAX,EUR,OPT,20240621,18500,C,12,20240326,08:01,210.5,212,209.9,211,30,4
{SPREAD},FDAX,DAX,EUR,SPR,,,,13,20240326,08:02,-3.5,0,-4,-1.5,5,2
{FUTURE},FDAX,DAX,EUR,FUT,20240621,,,11,20240326,08:03,18405,18420,18401,18418.5,9,5
{FUTURE},FDAX,DAX,EUR,FUT,20240621,,,11,20240326,08:04,18405,18400,18401,18418.5,9,5
"""


@pytest.fixture
def defs(own_environment: None) -> Iterator[dg.Definitions]:
    """What the YAML alone makes, in a project that has nothing else."""
    with create_defs_folder_sandbox() as sandbox:
        folder = sandbox.scaffold_component(component_cls=MarketSource, defs_yaml_contents=DEFS)
        with sandbox.load_component_and_build_defs(defs_path=folder) as (component, made):
            assert isinstance(component, MarketSource)
            yield dg.Definitions.merge(made, dg.Definitions(resources=lake_resources()))


def test_it_has_the_assets_checks_partitions_and_sensor_of_a_venue(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    tables = {key.to_user_string() for key in graph.get_all_asset_keys() if graph.get(key).is_materializable}
    assert tables == {"eurex/raw_bars", "eurex/bars", "eurex/daily_bars"}
    assert {graph.get(dg.AssetKey(["eurex", table])).group_name for table in ("raw_bars", "bars")} == {"eurex"}
    assert len(graph.asset_check_keys) == 21
    partitions = graph.get(dg.AssetKey(["eurex", "bars"])).partitions_def
    assert partitions is not None
    assert {"2024-03-28", "2024-04-02"} <= set(partitions.get_partition_keys())
    assert not {"2024-03-29", "2024-03-30", "2024-04-01"} & set(partitions.get_partition_keys())
    assert {sensor.name for sensor in defs.sensors or ()} == {"eurex_objects"}
    assert {job.name for job in defs.jobs or ()} == {"eurex_update", "eurex_reload"}


def test_it_loads_its_files(defs: dg.Definitions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_EUREX_URL", str(tmp_path))
    (tmp_path / "20240326_BINS_XEUR08.csv").write_text(f"{HEADER}\n{ROWS}")
    (tmp_path / "20240326_BINS_XEUR09.csv").write_text(f"{HEADER}\n")
    (tmp_path / "README.txt").write_text("not a bar file")
    job = defs.resolve_implicit_global_asset_job_def()
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    result = job.execute_in_process(partition_key=str(SESSION), run_config=quiet)

    assert result.success
    failed = {found.check_name for found in result.get_asset_check_evaluations() if not found.passed}
    # The hours that have not come, the README among the objects, and the rows that can't be bars.
    assert failed == {"session_complete", "objects_known", "few_rows_refused"}
    lake = Lake.open()
    daily = lake.table("eurex/daily_bars").to_polars().sort("instrument_id")
    columns = ("instrument_id", "session", "currency", "open", "high", "low", "close", "volume", "trades", "bar_count")
    assert daily.select(columns).rows() == [
        (FUTURE, SESSION, "EUR", 18400.0, 18420.0, 18399.0, 18418.5, 21, 12, 2),
        (OPTION, SESSION, "EUR", 210.5, 212.0, 209.9, 211.0, 30, 4, 1),
        (SPREAD, SESSION, "EUR", -3.5, 0.0, -4.0, -1.5, 5, 2, 1),
    ]
    (refused,) = lake.table("quarantine").to_polars().iter_rows(named=True)
    assert (refused["source"], refused["row_number"], refused["row"]) == ("eurex", 5, ROWS.splitlines()[4])
    assert "high is below open, low or close" in refused["reasons"]
    ledger = lake.table("ingest_ledger").to_polars().sort("object")
    assert ledger["status"].to_list() == ["loaded", "empty"]
    assert ledger["product"].to_list() == ["bars", "bars"]
    assert ledger["first_session"].to_list() == ledger["last_session"].to_list() == [SESSION, SESSION]
