"""A report of any table or view is a table of PostgreSQL, or an object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from deltalake import DeltaTable
from pydantic import ValidationError

from assets_tests.support.servers.ministack import MinistackS3
from assets_tests.support.vendor_lake import KEY, VendorLake, small_market, vendor_lake
from lakehouse.catalog import described_source
from lakehouse.components.resources import lake_resources
from lakehouse.components.sources.run_tags import range_tags
from lakehouse.components.table_report import report_asset
from lakehouse.derive.table_report import ReportConfig, TableTarget
from lakehouse.errors import SourceError
from lakehouse.lake.strict_yaml import yaml_documents
from lakehouse.servers.postgres import Database
from lakehouse.settings import PROJECT_ROOT, settings
from lakehouse.simulators.vendor_api import VendorApi

DAYS = [date(2024, 3, 27), date(2024, 3, 28)]


def project_report(name: str) -> ReportConfig:
    """A report of the project's own `defs.yaml` files."""
    (document,) = yaml_documents((PROJECT_ROOT / "lakehouse" / "defs" / "reports" / name / "defs.yaml").read_text())
    return ReportConfig.model_validate(document["attributes"])


def changed(config: ReportConfig, **attributes: Any) -> ReportConfig:
    return ReportConfig.model_validate(config.model_dump(by_alias=True) | attributes)


def materialized(config: ReportConfig, days: Sequence[date] = DAYS) -> dict[str, Any]:
    """What a run says, over some days if the report is by partition."""
    tags = {} if config.partition is None else range_tags(days[0], days[-1])
    result = dg.materialize([report_asset(config)], resources=lake_resources(), tags=tags)
    event = result.asset_materializations_for_node(f"reports__{config.report}")[-1]
    return {name: value.value for name, value in event.metadata.items()}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VendorLake]:
    """A lake of two sessions, which no test changes."""
    market = small_market(days=DAYS)
    home = tmp_path_factory.mktemp("vendor")
    with vendor_lake(home, VendorApi(market, api_key=KEY), market.symbols) as made:
        made.update(DAYS)
        yield made


@pytest.fixture
def target(kept: VendorLake, empty_database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """The database that reports are written to."""
    kept.use(monkeypatch)
    monkeypatch.setenv("LAKEHOUSE_DATABASE_URL", empty_database.url)
    settings.cache_clear()
    return empty_database


@pytest.mark.parametrize("name", ["intraday_adjusted", "daily_adjusted"])
def test_the_project_s_reports_become_tables_exactly_once(name: str, target: Database, kept: VendorLake) -> None:
    config = project_report(name)
    first, again = materialized(config), materialized(config)
    assert first["target"] == f"postgres:reports.{name}"
    assert first["rows_written"] == first["dagster/row_count"] > 0
    assert (again["rows_written"], again["rows_deleted"]) == (0, 0)
    with target.connect() as connection:
        cursor = connection.execute(f"SELECT * FROM reports.{name} ORDER BY 1, 2".encode())
        assert [column.name for column in cursor.description or ()] == list(config.columns)
        stored = cursor.fetchall()
    expected = kept.lake.sql(f"SELECT {', '.join(config.columns.values())} FROM {config.of} ORDER BY 1, 2")
    assert expected is not None
    assert stored == expected.fetchall()


def test_rows_that_are_not_reported_any_more_are_deleted(target: Database) -> None:
    config = project_report("daily_adjusted")
    everything = materialized(config)["dagster/row_count"]
    some = materialized(changed(config, where=f"session = DATE '{DAYS[0]}'"))
    assert some["rows_written"] == 0
    assert some["rows_deleted"] == everything - some["dagster/row_count"] > 0


def test_a_report_by_partition_writes_the_rows_of_its_own(target: Database, tmp_path: Path) -> None:
    config = project_report("daily_adjusted")
    both, first = materialized(config)["dagster/row_count"], materialized(config, DAYS[:1])
    assert (first["rows_written"], first["rows_deleted"]) == (0, 0)
    assert 0 < first["dagster/row_count"] < both
    with target.connect(autocommit=True) as connection:
        connection.execute("UPDATE reports.daily_adjusted SET daily_open = 0")
        connection.execute("INSERT INTO reports.daily_adjusted VALUES (%s, 'GONE'), (%s, 'GONE')", DAYS)
        again = materialized(config, DAYS[:1])
        assert (again["rows_written"], again["rows_deleted"]) == (first["dagster/row_count"], 1)
        wrong = "SELECT DISTINCT price_date FROM reports.daily_adjusted WHERE daily_open = 0 OR symbol = 'GONE'"
        assert connection.execute(wrong).fetchall() == [(DAYS[1],)]
    to = {"format": "csv", "url": str(tmp_path), "key": "daily_{partition}.csv"}
    assert materialized(changed(config, target=to))["rows_written"] == both
    assert sorted(path.name for path in tmp_path.glob("*.csv")) == [f"daily_{day}.csv" for day in DAYS]
    with pytest.raises(ValidationError, match=r"needs \{partition\} in the target's key"):
        changed(config, target={**to, "key": "daily.csv"})
    with pytest.raises(ValidationError, match="needs it among the columns"):
        changed(config, columns={"symbol": "symbol"})


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.usefixtures("target")
def test_a_report_becomes_an_object(kind: str, tmp_path: Path) -> None:
    to = {"format": kind, "url": str(tmp_path / "out"), "key": f"daily.{kind}"}
    config = changed(project_report("daily_adjusted"), target=to, partition=None)
    first, again = materialized(config), materialized(config)
    assert (first["rows_written"], again["rows_written"]) == (first["dagster/row_count"], 0)
    file = tmp_path / "out" / f"daily.{kind}"
    read = pl.read_parquet(file) if kind == "parquet" else pl.read_csv(file)
    assert (read.columns, read.height) == (list(config.columns), first["dagster/row_count"])


@pytest.mark.usefixtures("target")
def test_a_report_becomes_a_delta_table__of_which_what_differs_is_written(tmp_path: Path) -> None:
    to = {"format": "delta", "url": (tmp_path / "daily").as_uri(), "by": "price_date"}
    config = changed(project_report("daily_adjusted"), target=to, partition=None)
    first, again = materialized(config), materialized(config)
    assert (first["rows_written"], again["rows_written"]) == (first["dagster/row_count"], 0)
    read = pl.read_delta(str(tmp_path / "daily"))
    assert (read.columns, read.height) == (list(config.columns), first["dagster/row_count"])
    assert read.sort("price_date", "symbol").equals(read)
    with pytest.raises(ValidationError, match="remove `partition`"):
        changed(config, partition="session")
    with pytest.raises(ValidationError, match="by day needs it among the columns"):
        changed(config, target={**to, "by": "day"})
    with pytest.raises(ValidationError, match="gs://"):
        changed(config, target={**to, "url": "gs://bucket/daily"})


@pytest.mark.usefixtures("target")
def test_a_report_becomes_a_delta_table_in_a_bucket(ministack_s3: MinistackS3, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = ministack_s3.create_bucket("copies")
    for name, value in ministack_s3.environment().items():
        monkeypatch.setenv(name, value)
    to = {"format": "delta", "url": f"s3://{bucket}/marts/daily", "by": "price_date"}
    config = changed(project_report("daily_adjusted"), target=to, partition=None)
    first, again = materialized(config), materialized(config)
    assert (first["rows_written"], again["rows_written"]) == (first["dagster/row_count"], 0)
    assert DeltaTable(to["url"]).count() == first["dagster/row_count"]


@pytest.mark.usefixtures("target")
def test_what_does_not_exist_is_named() -> None:
    config = project_report("daily_adjusted")
    with pytest.raises(SourceError, match=r"report daily_adjusted: .*nothing"):
        materialized(changed(config, of="alpha_vantage.nothing"))
    with pytest.raises(SourceError, match=r"report daily_adjusted: .*nothing"):
        materialized(changed(config, columns={**config.columns, "daily_open": "nothing"}))
    with pytest.raises(SourceError, match="permid has no partitions"):
        report_asset(changed(config, of="permid.found_permids"))
    with pytest.raises(ValidationError, match="key"):
        changed(config, target={"format": "postgres", "table": "daily"})


@pytest.mark.parametrize("name", ["intraday_adjusted", "daily_adjusted"])
def test_the_project_s_reports_have_columns_of_their_tables(name: str) -> None:
    config = project_report(name)
    source, _, table = config.of.partition(".")
    assert set(config.columns.values()) <= set(described_source(source).contract(table).column_names)
    assert isinstance(config.target, TableTarget)
    assert set(config.target.key) <= set(config.columns)
