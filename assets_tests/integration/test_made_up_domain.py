"""A domain that the project has never seen gets everything by one entry in the catalogue: load, ledger, quarantine,
conservation, checks, reading as of a moment, rebuilding, SQL, a mart, and Dagster assets with partitions, backfill and
a sensor.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox

from assets_tests.support.made_up_domain import YAML, made_up_domain
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.components.marts import mart_assets
from lakehouse.components.resources import lake_resources
from lakehouse.components.sources.run_tags import RANGE_END_TAG, RANGE_START_TAG
from lakehouse.derive.rebuild import rebuild
from lakehouse.ingest.load import LoadResult, load
from lakehouse.settings import settings
from lakehouse.warehouse.dbt import manifest_path
from lakehouse.warehouse.parts import part_of
from lakehouse.warehouse.publish import differing_marts, publish

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")

DAYS = [date(2024, 1, 2), date(2024, 1, 3)]
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def domain(own_environment: None, tmp_path: Path) -> Iterator[Any]:
    with made_up_domain(tmp_path / "made up") as module:
        yield module


@pytest.fixture
def feed(domain: Any, tmp_path: Path) -> Path:
    """Two days' takings; one row is none."""
    folder = tmp_path / "made up" / "feed"
    put(folder, DAYS[0], "north,10.10", "south,20.20")
    put(folder, DAYS[1], "north,0.30", "south,-1")
    return folder


def put(folder: Path, day: date, *rows: str, at: datetime | None = None) -> None:
    path = folder / f"takings-{day}.csv"
    path.write_text("".join(f"{line}\n" for line in ("taken,shop,eur", *(f"{day},{row}" for row in rows))))
    if at is not None:
        os.utime(path, (at.timestamp(),) * 2)


def take() -> LoadResult:
    """Loads and derives both days."""
    lake, source = Lake.open(), described_source("corner")
    loaded = load(lake, source.datasets[0], DAYS)
    for table in source.tables:
        table.derive(lake, source, DAYS)
    return loaded


def rows(query: str, as_of: datetime | None = None) -> list[tuple[Any, ...]]:
    found = Lake.open(as_of=as_of).sql(query)
    assert found is not None
    return found.fetchall()


def test_it_is_loaded_derived_corrected_and_read_as_of_a_moment(feed: Path) -> None:
    loaded = take()
    assert (loaded.rows_received, loaded.rows_quarantined) == (4, 1)
    takings = "SELECT day, shop, amount FROM corner.takings ORDER BY ALL"
    first = [
        (DAYS[0], "north", Decimal("10.10")),
        (DAYS[0], "south", Decimal("20.20")),
        (DAYS[1], "north", Decimal("0.30")),
    ]
    assert rows(takings) == first
    assert rows("SELECT source, reasons, row FROM lake.quarantine") == [
        ("corner", ["the amount is negative"], f"{DAYS[1]},south,-1")
    ]
    assert rows("SELECT product, status, count(*) FROM lake.ingest_ledger GROUP BY ALL") == [("takings", "loaded", 2)]
    assert rows("SELECT session, received, kept, quarantined FROM lake.conservation ORDER BY ALL") == [
        (DAYS[0], 2, 2, 0),
        (DAYS[1], 2, 1, 1),
    ]
    before = datetime.now(UTC)
    put(feed, DAYS[0], "north,10.10", "south,21.00")
    assert take().objects["loaded"] == 1
    assert take().rows_received == 0
    assert rows("SELECT amount FROM corner.takings WHERE shop = 'south'") == [(Decimal("21.00"),)]
    assert rows(takings, as_of=before) == first
    source = described_source("corner")
    assert not rebuild(Lake.open(), source, verify=True).differs
    findings = {check.name: check.run(Lake.open(), source, None) for check in source.checks}
    assert {name for name, finding in findings.items() if not finding.passed} == {"few_rows_refused"}
    assert findings["conservation"].facts == {
        "received": 6,
        "kept": 3,
        "duplicates": 1,
        "superseded": 1,
        "quarantined": 1,
    }


def test_it_has_a_mart(feed: Path) -> None:
    take()
    publish(settings())
    query = "SELECT source, day, amount FROM marts.fct_takings ORDER BY day"
    assert rows(query) == [("corner", DAYS[0], Decimal("30.30")), ("corner", DAYS[1], Decimal("0.30"))]
    assert differing_marts(settings(), part_of("shops")) == []


def test_dagster_has_its_assets_partitions_sensor_and_backfill(feed: Path) -> None:
    from made_up_shops.component import Shops  # type: ignore[import-not-found]

    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(component_cls=Shops, defs_yaml_contents=yaml.safe_load(YAML))
        with sandbox.load_component_and_build_defs(defs_path=path) as (_, made):
            marts = mart_assets(part_of("shops"), manifest_path(settings()))
            defs = dg.Definitions.merge(made, dg.Definitions(assets=[marts], resources=lake_resources()))
            graph = defs.resolve_asset_graph()
            raw, mart = dg.AssetKey(["corner", "raw_takings"]), dg.AssetKey(["marts", "fct_takings"])
            assert graph.get(mart).parent_keys == {dg.AssetKey(["corner", "takings"])}
            partitions = graph.get(raw).partitions_def
            assert partitions is not None
            assert partitions.get_partition_keys()[:3] == ["2024-01-01", "2024-01-02", "2024-01-03"]
            with dg.DagsterInstance.ephemeral() as instance:
                sensor = defs.resolve_sensor_def("corner_objects")
                with dg.build_sensor_context(instance=instance, resources=lake_resources()) as context:
                    (asked,) = sensor.evaluate_tick(context).run_requests or ()
                days = {RANGE_START_TAG: str(DAYS[0]), RANGE_END_TAG: str(DAYS[1])}
                assert days.items() <= asked.tags.items()
                job = defs.resolve_job_def("corner_update")
                result = job.execute_in_process(instance=instance, tags=asked.tags, run_config=_QUIET)
                assert result.success
                with dg.build_sensor_context(instance=instance, resources=lake_resources()) as context:
                    assert not sensor.evaluate_tick(context).run_requests
    failed = {found.check_name for found in result.get_asset_check_evaluations() if not found.passed}
    assert failed == {"few_rows_refused"}
    assert rows("SELECT sum(amount) FROM marts.fct_takings") == [(Decimal("30.60"),)]
