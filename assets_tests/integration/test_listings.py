"""OpenFIGI: ISINs of settings and of the lake's instruments are asked about, every candidate is kept, and what an
answer no longer has ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from assets_tests.conftest import PROJECT_ROOT
from assets_tests.support.listings_lake import take
from assets_tests.support.reference_lake import take as take_new
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.derive.rebuild import rebuild
from lakehouse.errors import SourceError
from lakehouse.ingest.http import connection
from lakehouse.simulators.gleif import Gleif, lei_of
from lakehouse.simulators.mapping_api import MappingApi, invented

IBM, SAP, BMW, UNKNOWN = "US4592001014", "DE0007164600", "DE0005190003", "US0378331005"
SAMPLES = PROJECT_ROOT.parent / "shared" / "data" / "reference" / "openfigi"


@pytest.fixture
def mapping(own_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[MappingApi]:
    monkeypatch.setattr(connection, "FIRST_WAIT_S", 0.001)
    known = {
        IBM: invented(IBM, "IBM", "Intl Business Machines Corp", {"XNYS": "UN", "XETR": "GY"}),
        SAP: invented(SAP, "SAP", "SAP SE", {"XETR": "GY", "XFRA": "GF"}),
        BMW: invented(BMW, "BMW", "Bayerische Motoren Werke AG", {"XETR": "GY"}),
    }
    with MappingApi(known, api_key="a-key", now=lambda: 0.0) as api:
        monkeypatch.setenv("LAKEHOUSE_OPENFIGI_URL", api.url)
        ask(monkeypatch, IBM, f"{SAP}/XETR", f"{BMW}/XETR", UNKNOWN)
        yield api


def ask(patch: pytest.MonkeyPatch, *subjects: str) -> None:
    patch.setenv("LAKEHOUSE_OPENFIGI_INSTRUMENTS", ", ".join(subjects))


def rows(query: str, **how: Any) -> list[tuple[Any, ...]]:
    found = Lake.open(**how).sql(query)
    assert found is not None
    return found.fetchall()


def test_every_candidate_is_kept(mapping: MappingApi) -> None:
    take()
    assert mapping.requests[0][0] == {"idType": "ID_ISIN", "idValue": IBM}
    assert mapping.requests[0][1] == {"idType": "ID_ISIN", "idValue": SAP, "micCode": "XETR"}
    counts = "SELECT isin, count(*), count(*) FILTER (is_composite) FROM reference.listings GROUP BY ALL ORDER BY ALL"
    assert rows(counts) == [(BMW, 1, 0), (SAP, 1, 0), (IBM, 3, 1)]
    assert rows("SELECT isin, asked_mic, status, candidates FROM reference.mapping_requests ORDER BY ALL") == [
        (BMW, "XETR", "matched", 1),
        (SAP, "XETR", "matched", 1),
        (UNKNOWN, None, "none", 0),
        (IBM, None, "matched", 3),
    ]
    assert rows("SELECT isin, name, composites, listings FROM reference.instruments ORDER BY isin")[1:] == [
        (SAP, "SAP SE", 1, 1),
        (IBM, "INTL BUSINESS MACHINES CORP", 1, 2),
    ]
    figis = "SELECT ticker, exch_code, mic_code FROM reference.figi ORDER BY ALL"
    assert rows(figis)[:2] == [("BMW", "GY", "XETR"), ("IBM", "GY", None)]
    identifiers = "SELECT scheme, value FROM reference.identifiers WHERE source = 'openfigi' ORDER BY ALL"
    assert rows(identifiers) == [
        *(("isin", isin) for isin in (BMW, SAP, IBM, IBM)),
        ("mic_ticker", "XETR/BMW"),
        ("mic_ticker", "XETR/SAP"),
    ]


def test_the_same_answers_are_no_news_and_what_one_lacks_has_ended(
    mapping: MappingApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    take()
    before = rows("SELECT * FROM reference.listings ORDER BY ALL")
    assert take().rows_received == 0
    assert rows("SELECT * FROM reference.listings ORDER BY ALL") == before
    moment = datetime.now(UTC)
    lost = mapping.known[IBM].pop()
    mapping.known[SAP][1]["ticker"] = "SAPG"
    take()
    history = f"SELECT known_to IS NULL FROM reference.listings WHERE isin = '{IBM}'"
    assert rows(history).count((False,)) == 1
    present = "FROM reference.listings WHERE known_to IS NULL AND valid_to IS NULL"
    ended = f"SELECT count(*) {present} AND figi = '{lost['figi']}'"
    assert rows(ended) == [(0,)]
    assert rows(f"SELECT count(*) FROM reference.figi WHERE isin = '{IBM}'") == [(2,)]
    assert ("SAPG",) in rows("SELECT ticker FROM reference.figi")
    assert ("SAP",) in rows("SELECT ticker FROM reference.figi", as_of=moment)
    assert not rebuild(Lake.open(), described_source("openfigi"), verify=True).differs


def test_limits_with_and_without_a_key(mapping: MappingApi, monkeypatch: pytest.MonkeyPatch) -> None:
    isins = [f"{IBM}/X{number:03}" for number in range(7)]
    ask(monkeypatch, *isins)
    take()
    assert [len(jobs) for jobs in mapping.requests] == [5, 2]
    monkeypatch.setenv("OPENFIGI_API_KEY", "a-key")
    take()
    assert [len(jobs) for jobs in mapping.requests] == [5, 2, 7]


def test_a_batch_is_halved_on_413_and_waits_on_429(mapping: MappingApi) -> None:
    mapping.faults.extend(["too many", "too large"])
    loaded = take()
    assert mapping.statuses[:4] == [429, 413, 200, 200]
    assert (loaded.errors, loaded.objects["loaded"]) == ({}, 3)


def test_an_array_of_another_length_is_refused(mapping: MappingApi) -> None:
    mapping.faults.append("short")
    loaded = take()
    assert "has 3 elements for 4 questions, so that none can be assigned" in loaded.errors[f"listings/{IBM}"]
    assert rows("SELECT DISTINCT status FROM reference.mapping_requests") == [("failed",)]
    assert take().objects["loaded"] == 3
    assert rows("SELECT count(*) FROM reference.mapping_requests WHERE status = 'failed'") == [(0,)]


def test_a_wrong_figi_goes_to_the_quarantine(mapping: MappingApi) -> None:
    mapping.known[SAP][1]["figi"] = "GHG000000009"
    mapping.known[SAP].append(mapping.known[SAP][1] | {"figi": "BBG000BLNNH6"})
    take()
    (found,) = rows("SELECT source, object, row_number, reasons FROM lake.quarantine")
    assert found[:3] == ("openfigi", f"listings/{SAP}/XETR", 1)
    assert found[3] == ["figi is not a FIGI (twelve characters, the third a G, with a check digit)"]


def test_settings_with_a_wrong_isin_are_refused(mapping: MappingApi, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(monkeypatch, "US0378331006/XNAS")
    with pytest.raises(SourceError, match=r"no ISIN or ISIN/MIC \(its check digit would be 5\)"):
        take()


@pytest.mark.skipif(not SAMPLES.exists(), reason="needs ../shared/data/reference")
def test_the_sample_about_ibm(mapping: MappingApi, monkeypatch: pytest.MonkeyPatch) -> None:
    (answer,) = json.loads(Path(SAMPLES / "mapping" / "isin_example.json").read_text())
    mapping.known = {IBM: answer["data"]}
    ask(monkeypatch, IBM)
    take()
    counts = "count(*), count(DISTINCT composite_figi), count(DISTINCT share_class_figi)"
    assert rows(f"SELECT {counts} FROM reference.figi") == [(198, 81, 1)]
    assert rows("SELECT composites, listings FROM reference.instruments") == [(81, 185)]


def test_warnings_tell_of_instruments_without_a_listing_or_an_issuer(
    mapping: MappingApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warnings() -> dict[str, str]:
        source, lake = described_source("openfigi"), Lake.open()
        found = {check.name: check.run(lake, source, None) for check in source.checks if check.severity == "warn"}
        return {name: finding.summary for name, finding in found.items() if not finding.passed}

    take()
    # One of four questions had no answer; of issuers nothing is known as long as no mapping is loaded.
    assert warnings() == {"most_are_resolved": "1 question has no listing"}
    gleif = Gleif(tmp_path / "mappings", pairs={"isin": {(IBM, lei_of(1)), (BMW, lei_of(2))}, "bic": set()})
    gleif.publish_pairs("isin", datetime(2024, 10, 28, tzinfo=UTC))
    monkeypatch.setenv("LAKEHOUSE_GLEIF_MAPPINGS_URL", str(gleif.folder))
    take_new("gleif")
    assert warnings() == {"most_are_resolved": "1 question has no listing", "issuers_known": "1 ISIN has no issuer"}
