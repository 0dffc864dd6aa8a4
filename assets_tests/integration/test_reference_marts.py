"""The marts join reference data: venues and instruments show what it says as of their versions, nothing where it says
several things, and are published without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from assets_tests.integration.test_dbt_models import Bar, Key, write
from assets_tests.support.exchange_lake import code_location
from assets_tests.support.listings_lake import take
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.components.resources import lake_resources
from lakehouse.ingest.load import load
from lakehouse.settings import settings
from lakehouse.simulators.mapping_api import MappingApi, invented
from lakehouse.warehouse.publish import publish

SAP, PUMA, BMW = "DE0007164600", "DE0006969603", "DE0005190003"
PUMA_SE, SAP_SE = "529900GRZ2BQY5ZM9N49", "529900D6BF99LW9R2E68"
DAY = date(2024, 1, 2)
_MICS = (
    "MIC,OPERATING MIC,OPRT/SGMT,MARKET NAME-INSTITUTION DESCRIPTION,LEGAL ENTITY NAME,LEI,MARKET CATEGORY CODE,"
    "ACRONYM,ISO COUNTRY CODE (ISO 3166),CITY,WEBSITE,STATUS,CREATION DATE,LAST UPDATE DATE,LAST VALIDATION DATE,"
    "EXPIRY DATE,COMMENTS\n"
    f"XETR,XETR,OPRT,XETRA,DEUTSCHE BOERSE AG,{PUMA_SE},RMKT,,DE,FRANKFURT,,ACTIVE,20050523,20240101,,,\n"
)


@pytest.fixture
def bars(own_environment: None) -> None:
    write({Key(isin, DAY, "EUR"): Bar(100, name) for isin, name in ((SAP, "SAP"), (PUMA, "PUM"), (BMW, "BMW"))})


@pytest.fixture
def mapping(bars: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[MappingApi]:
    known = {
        SAP: invented(SAP, "SAP", "SAP SE", {"XETR": "GY"}),
        PUMA: invented(PUMA, "PUM", "PUMA SE", {"XETR": "GY"}),
    }
    known[PUMA].append(known[PUMA][1] | {"figi": "BBG000BLNNH6"})
    with MappingApi(known, now=lambda: 0.0) as api:
        monkeypatch.setenv("LAKEHOUSE_OPENFIGI_URL", api.url)
        yield api


def marts(query: str) -> list[tuple]:
    with duckdb.connect(str(settings().warehouse), read_only=True) as connection:
        return connection.execute(query).fetchall()


def test_the_marts_are_published_without_reference_data(bars: None) -> None:
    publish(settings())
    assert marts("SELECT instrument_id, isin, figi, issuer_lei, issuer_name FROM marts.dim_instrument ORDER BY 1") == [
        (isin, isin, None, None, None) for isin in sorted((SAP, PUMA, BMW))
    ]
    assert marts("SELECT operating_mic, lei, status, iso_name FROM marts.dim_venue WHERE mic = 'XETR'") == [
        (None, None, None, None)
    ]
    assert marts("SELECT count(*) FROM marts.dim_issuer") == [(0,)]
    assert marts("SELECT DISTINCT scheme FROM marts.bridge_instrument_identifier") == [("isin",)]


def test_instruments_and_venues_show_what_reference_data_says(
    mapping: MappingApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_MIC_URL", str(tmp_path / "mic"))
    (tmp_path / "mic").mkdir()
    (tmp_path / "mic" / "ISO10383_MIC_2024-01-08.csv").write_text(_MICS)
    lake, register = Lake.open(), described_source("mic")
    load(lake, register.datasets[0], [date(2024, 1, 8)])
    for table in register.tables:
        table.derive(lake, register, [date(2024, 1, 8)])
    # The lake's instruments are asked about, each on its market.
    take()
    assert {job["micCode"] for jobs in mapping.requests for job in jobs} == {"XETR"}
    publish(settings())
    listed = mapping.known[SAP][1]
    assert marts("SELECT instrument_id, figi, composite_figi FROM marts.dim_instrument ORDER BY 1") == [
        (BMW, None, None),
        # Two candidates: none is picked.
        (PUMA, None, None),
        (SAP, listed["figi"], listed["compositeFIGI"]),
    ]
    assert marts("SELECT operating_mic, lei, status, iso_name FROM marts.dim_venue WHERE mic = 'XETR'") == [
        ("XETR", PUMA_SE, "ACTIVE", "XETRA")
    ]
    assert marts(f"SELECT scheme FROM marts.bridge_instrument_identifier WHERE instrument_id = '{SAP}' ORDER BY 1") == [
        ("composite_figi",),
        ("figi",),
        ("isin",),
        ("share_class_figi",),
    ]


def test_a_sensor_asks_about_new_instruments_alone(mapping: MappingApi) -> None:
    defs = code_location()
    sensor = defs.resolve_sensor_def("openfigi_subjects")
    with dg.DagsterInstance.ephemeral() as instance:

        def asked() -> list[dg.RunRequest]:
            with dg.build_sensor_context(instance=instance, resources=lake_resources()) as context:
                return list(sensor.evaluate_tick(context).run_requests or ())

        (request,) = asked()
        job = defs.resolve_job_def("openfigi_update")
        asset = [dg.AssetKey(["openfigi", "raw_listings"])]
        assert job.execute_in_process(instance=instance, tags=request.tags, asset_selection=asset).success
        assert asked() == []
        write({Key("US4592001014", DAY, "EUR"): Bar(100, "IBM")})
        (request,) = asked()
        mapping.requests.clear()
        assert job.execute_in_process(instance=instance, tags=request.tags, asset_selection=asset).success
    assert mapping.requests == [[{"idType": "ID_ISIN", "idValue": "US4592001014", "micCode": "XETR"}]]
