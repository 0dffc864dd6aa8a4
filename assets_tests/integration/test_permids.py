"""PermID: what a search finds is kept, and joined by what refers to what, never by position."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from assets_tests.conftest import PROJECT_ROOT
from assets_tests.support.listings_lake import take, take_all
from assets_tests.support.reference_lake import failed_checks
from lakehouse.api import Lake
from lakehouse.errors import SourceError
from lakehouse.simulators.gleif import lei_of
from lakehouse.simulators.permid_api import PermidApi, invented, permid_of

SAMPLE = PROJECT_ROOT.parent / "shared" / "data" / "reference" / "permid_search_AAPL_raw.json"
_IDS = "SELECT organization_id, instrument_id, quote_id FROM reference.permid ORDER BY ALL"


@pytest.fixture
def permids(own_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[PermidApi]:
    with PermidApi({"IBM": invented("IBM", "IBM", "XNYS", 100_000_000)}, api_key="a-key") as api:
        monkeypatch.setenv("LAKEHOUSE_PERMID_URL", api.url)
        monkeypatch.setenv("LAKEHOUSE_PERMID_QUERIES", "IBM, nothing")
        monkeypatch.setenv("PERMID_API_KEY", "a-key")
        yield api


def rows(query: str) -> list[tuple[Any, ...]]:
    found = Lake.open().sql(query)
    assert found is not None
    return found.fetchall()


def test_entities_are_joined_by_their_references(permids: PermidApi) -> None:
    other = invented("SAP", "SAP SE", "XETR", 200_000_000)
    for kind, entities in permids.known["IBM"].items():
        # The other company's come first, or last: places say nothing.
        entities.insert(0 if kind == "instruments" else 1, other[kind][0])  # type: ignore[attr-defined]
    loaded = take("permid")
    assert loaded.objects == {"loaded": 1, "empty": 1, "failed": 0}
    assert rows(_IDS) == [
        ("100000000", "100000001", "100000002"),
        ("200000000", "200000001", "200000002"),
    ]
    assert rows("SELECT organization_name, quote_mic FROM reference.permid ORDER BY ALL") == [
        ("IBM", "XNYS"),
        ("SAP SE", "XETR"),
    ]
    assert take("permid").rows_received == 0


def test_what_refers_to_nothing_has_a_row_of_its_own(permids: PermidApi) -> None:
    known = {kind: [dict(each) for each in entities] for kind, entities in permids.known["IBM"].items()}
    known["quotes"][0]["isQuoteOf"] = permid_of(999_999_999)
    del known["organizations"]
    permids.known["IBM"] = known
    take("permid")
    assert rows(_IDS) == [(None, "100000001", None), (None, None, "100000002")]


def test_a_row_without_a_permid_goes_to_the_quarantine(permids: PermidApi) -> None:
    known = {kind: [dict(each) for each in entities] for kind, entities in permids.known["IBM"].items()}
    known["organizations"].append({"@id": "https://permid.org/2-x", "organizationName": "None"})
    permids.known["IBM"] = known
    take("permid")
    assert rows("SELECT object, row_number, reasons FROM lake.quarantine") == [
        ("searches/IBM", 2, ["permid is not the address of a PermID"])
    ]


def test_records_are_matched_by_what_an_answer_refers_to(
    own_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, unknown = lei_of(1), lei_of(2), lei_of(3)
    found = {first: (100_000_010, "First SE"), second: (200_000_010, "Second plc")}
    with PermidApi({}, api_key="a-key", organizations=found) as api:
        monkeypatch.setenv("LAKEHOUSE_PERMID_URL", api.url)
        monkeypatch.setenv("LAKEHOUSE_PERMID_MATCH_URL", api.match_url)
        monkeypatch.setenv("LAKEHOUSE_PERMID_LEIS", ", ".join((first, second, unknown)))
        monkeypatch.setenv("PERMID_API_KEY", "a-key")
        _, loaded = take_all("permid")
        assert (loaded.rows_received, loaded.rows_quarantined, api.records) == (3, 0, [3])
        query = "SELECT lei, regexp_extract(permid, '[0-9]+$'), name, level FROM permid.matched_permids"
        assert sorted(rows(query)) == sorted(
            [
                (first, "100000010", "First SE", "Excellent"),
                (second, "200000010", "Second plc", "Excellent"),
                (unknown, None, None, "No Match"),
            ]
        )
        assert take_all("permid")[1].rows_received == 0
        lake = Lake.open()
        assert [each.value for each in lake.resolve("100000010", to="lei").answers] == [first]
        assert [each.value for each in lake.resolve(second, to="permid").answers] == ["200000010"]
        assert lake.resolve(unknown, to="permid").status == "none"
        assert failed_checks("permid") == set()
        # The publisher takes the match back.
        del api.organizations[first]
        take_all("permid")
        assert Lake.open().resolve(first, to="permid").status == "none"


def test_a_search_with_a_slash_is_refused(permids: PermidApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_PERMID_QUERIES", "A/S")
    with pytest.raises(SourceError, match="LAKEHOUSE_PERMID_QUERIES names A/S"):
        take("permid")


@pytest.mark.skipif(not SAMPLE.exists(), reason="needs ../shared/data/reference")
def test_the_sample_gives_a_row(permids: PermidApi, monkeypatch: pytest.MonkeyPatch) -> None:
    result = json.loads(SAMPLE.read_text())["result"]
    permids.known = {"AAPL": {kind: found["entities"] for kind, found in result.items()}}
    monkeypatch.setenv("LAKEHOUSE_PERMID_QUERIES", "AAPL")
    take("permid")
    columns = "organization_id, organization_name, instrument_id, instrument_name, quote_id, quote_ric, quote_mic"
    assert rows(f"SELECT {columns} FROM reference.permid") == [
        ("4295905573", "Apple Inc", "8590932301", "Apple Ord Shs", "25727408109", "AAPL.N", "XNYS")
    ]
