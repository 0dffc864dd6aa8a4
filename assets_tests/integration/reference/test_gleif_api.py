"""GLEIF's API on loopback: pages are landed as documents, and read as those in a folder are."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from assets_tests.support.reference_lake import rows, take
from lakehouse.catalog import described_source
from lakehouse.errors import SourceUnavailable
from lakehouse.ingest.dataset import ObjectOrigin
from lakehouse.simulators.gleif import Gleif, isin_of, lei_of
from lakehouse.simulators.gleif_server import GleifServer
from lakehouse.simulators.market_register import MarketRegister

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
EARLIER = NOW - timedelta(hours=9)


@pytest.fixture
def gleif(tmp_path: Path) -> Gleif:
    publisher = Gleif(tmp_path / "published")
    publisher.grow(8, NOW - timedelta(days=30), random.Random(1))
    publisher.pairs["isin"] |= {(isin_of(100 + number), lei_of(4)) for number in range(5)}
    publisher.tick(EARLIER)
    return publisher


@pytest.fixture
def server(gleif: Gleif, own_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[GleifServer]:
    with GleifServer(gleif, per_page=2) as server:
        monkeypatch.setenv("LAKEHOUSE_GLEIF_API_URL", server.api_url)
        monkeypatch.setenv("LAKEHOUSE_GLEIF_LEIS", ", ".join(lei_of(number) for number in (3, 4)))
        yield server


def test_pages_about_named_entities_and_those_of_markets_are_landed(
    gleif: Gleif, server: GleifServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register = MarketRegister(tmp_path / "register")
    for number in (5, 6):
        register.add(f"X00{number}", NOW.date(), lei=lei_of(number))
    register.publish(NOW.date())
    register.write(NOW.date())
    monkeypatch.setenv("LAKEHOUSE_MIC_URL", str(register.folder))
    take("mic")
    server.faults.append("too many")
    take("gleif")
    assert rows("SELECT lei FROM gleif.lei ORDER BY 1") == [(lei_of(number),) for number in (3, 4, 5, 6)]
    # Six ISINs are three pages of two.
    assert rows("SELECT count(*) FROM reference.lei_isin") == [(1 + 6,)]
    assert rows("SELECT count(*) FROM reference.entity_relationships") == [(2,)]
    assert rows("SELECT lei FROM reference.reporting_exceptions") == [(lei_of(3),)]
    asked = len(server.requests)
    gleif.put_entity(3, "Third AG", NOW)
    gleif.tick(NOW)
    take("gleif")
    known = "SELECT legal_name, known_from FROM gleif.entities WHERE lei = '{}'"
    assert {*rows(known.format(lei_of(3)))} >= {("Company 3 SE", EARLIER), ("Third AG", NOW)}
    assert rows(known.format(lei_of(4))) == [("Company 4 SE", EARLIER)]
    # What is as new as can be isn't asked for again, except what there was no answer to.
    renewed = server.requests[asked:]
    take("gleif")
    repeated = server.requests[asked + len(renewed) :]
    assert {path.rpartition("/")[2] for path in repeated} <= {
        "direct-parent-relationship",
        "ultimate-parent-relationship",
        "direct-parent-reporting-exception",
        "ultimate-parent-reporting-exception",
    }


def test_an_answer_without_a_moment_is_no_answer(server: GleifServer, monkeypatch: pytest.MonkeyPatch) -> None:
    (dataset,) = [each for each in described_source("gleif").datasets if each.name == "answered_entities"]
    assert isinstance(dataset.origin, ObjectOrigin)
    monkeypatch.setenv("LAKEHOUSE_GLEIF_API_URL", f"{server.mappings_url}/isin-lei?of=")
    with pytest.raises(SourceUnavailable, match="has no moment at meta"):
        dataset.origin.place().list()
