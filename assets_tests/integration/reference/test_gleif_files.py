"""Golden copies, files of changes and mappings of the simulated publisher: what the lake knows is what it published."""

from __future__ import annotations

import random
import shutil
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from assets_tests.support.reference_lake import failed_checks, rows, take
from assets_tests.support.soak import ONLY_IN_A_SOAK
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.derive.rebuild import rebuild
from lakehouse.simulators.gleif import Gleif, as_html, doubled, isin_of, lei_of, renamed, truncated

START = datetime(2024, 10, 28, tzinfo=UTC)
MOMENTS = [START + timedelta(hours=8 * number) for number in range(5)]


@pytest.fixture
def place(own_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the lake reads; the publisher writes to another, from which files are copied."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.setenv("LAKEHOUSE_GLEIF_URL", str(folder))
    monkeypatch.setenv("LAKEHOUSE_GLEIF_MAPPINGS_URL", str(folder))
    return folder


@pytest.fixture
def gleif(tmp_path: Path) -> Gleif:
    """Five golden copies: an entity changes, one merges into another, one is retracted and comes back."""
    publisher = Gleif(tmp_path / "published")
    publisher.grow(20, START - timedelta(days=30), random.Random(1))
    publisher.tick(MOMENTS[0])
    publisher.put_entity(2, "Second AG", MOMENTS[1])
    publisher.tick(MOMENTS[1])
    merged = {"Entity__EntityStatus": "INACTIVE", "Registration__RegistrationStatus": "MERGED"}
    merged |= {"Entity__SuccessorEntity__1__SuccessorLEI": lei_of(2)}
    publisher.put_entity(3, "Company 3 SE", MOMENTS[2], **merged)
    back = publisher.rows["lei2"].pop((lei_of(5),))
    publisher.tick(MOMENTS[2])
    publisher.put_entity(21, "Newcomer GmbH", MOMENTS[3])
    publisher.tick(MOMENTS[3])
    publisher.rows["lei2"][lei_of(5),] = back
    publisher.tick(MOMENTS[4])
    return publisher


ENTITIES = "SELECT lei, legal_name, status, registration_status, successor_1, valid_from, valid_to FROM gleif.entities"


def now() -> list[tuple[object, ...]]:
    return rows("SELECT lei, legal_name, status FROM gleif.lei ORDER BY ALL")


def truth(gleif: Gleif, moment: datetime) -> list[tuple[object, ...]]:
    found = gleif.states[moment]["lei2"].values()
    return sorted((row["LEI"], row["Entity.LegalName"], row["Entity.EntityStatus"]) for row in found)


def history() -> list[tuple[object, ...]]:
    names = "lei, legal_name, status, registration_status, successor_1, valid_from, valid_to, known_from, known_to"
    return rows(f"SELECT {names} FROM reference.entities ORDER BY ALL")


def test_a_full_file_and_its_changes_give_what_the_full_files_give(gleif: Gleif, place: Path, tmp_path: Path) -> None:
    for path in gleif.publish_full(MOMENTS[0]):
        shutil.copy(path, place)
    for since, moment in pairwise(MOMENTS):
        for path in gleif.publish_delta(moment, since):
            shutil.copy(path, place)
    take("gleif")
    by_changes = history()
    assert now() == truth(gleif, MOMENTS[-1])
    assert failed_checks("gleif") == set()
    for moment in MOMENTS[1:]:
        for path in gleif.publish_full(moment):
            shutil.copy(path, place)
    take("gleif")
    assert history() == by_changes
    assert failed_checks("gleif") == set()
    assert rows("SELECT lei, successor_1 FROM gleif.entities WHERE known_to IS NULL AND successor_1 IS NOT NULL") == [
        (lei_of(3), lei_of(2))
    ]


@pytest.mark.soak
@pytest.mark.parametrize("order", [(4, 0, 2, 1, 3), pytest.param((0, 1, 2, 3, 4), marks=ONLY_IN_A_SOAK)], ids=str)
def test_full_files_in_any_order_and_twice_give_the_same(
    gleif: Gleif, place: Path, order: tuple[int, ...], tmp_path: Path
) -> None:
    for number in order:
        for path in gleif.publish_full(MOMENTS[number]):
            shutil.copy(path, place)
        take("gleif")
        assert take("gleif") == {}
    assert now() == truth(gleif, MOMENTS[-1])
    for moment in MOMENTS:
        at = f"TIMESTAMPTZ '{moment.isoformat()}'"
        known = rows(f"""
            SELECT lei, legal_name, status FROM gleif.entities
            WHERE known_from <= {at} AND coalesce(known_to > {at}, true) AND valid_to IS NULL ORDER BY ALL
        """)
        assert known == truth(gleif, moment)
    stored = rows("SELECT count(*) FROM gleif.published_entities")[0][0]
    # The first snapshot has twenty rows; one changed, one merged and one went, one came, one came back.
    assert stored == 20 + 1 + 2 + 1 + 1
    assert failed_checks("gleif") == set()
    assert not rebuild(Lake.open(), described_source("gleif"), verify=True).differs


def test_a_full_file_after_a_gap_corrects_what_changes_said(gleif: Gleif, place: Path) -> None:
    gleif.put_entity(2, "Company 2 SE", MOMENTS[3])
    gleif.tick(MOMENTS[3])
    files = [
        *gleif.publish_full(MOMENTS[0]),
        *gleif.publish_delta(MOMENTS[1], MOMENTS[0]),
        *gleif.publish_full(MOMENTS[3]),
    ]
    for path in files:
        shutil.copy(path, place)
    take("gleif")
    assert now() == truth(gleif, MOMENTS[3])


def test_changes_with_a_gap_are_found_until_a_full_file_follows(gleif: Gleif, place: Path) -> None:
    for path in [*gleif.publish_full(MOMENTS[0]), *gleif.publish_delta(MOMENTS[3], MOMENTS[2])]:
        shutil.copy(path, place)
    take("gleif")
    assert failed_checks("gleif") == {"changes_without_gap"}
    for path in gleif.publish_full(MOMENTS[4]):
        shutil.copy(path, place)
    take("gleif")
    assert failed_checks("gleif") == set()
    assert now() == truth(gleif, MOMENTS[4])


def test_relationships_are_valid_for_their_period_and_one_query_gives_a_group(gleif: Gleif, place: Path) -> None:
    child, parent = lei_of(4), gleif.rows["rr"]
    (direct,) = [key[1] for key in parent if key[0] == child and "DIRECTLY" in key[2]]
    gleif.put_relationship(child, direct, "DIRECTLY", date(2015, 1, 1), date(2020, 1, 1))
    gleif.tick(MOMENTS[0])
    for path in gleif.publish_full(MOMENTS[0]):
        shutil.copy(path, place)
    take("gleif")
    query = f"""
        SELECT relationship_type FROM reference.entity_relationships
        WHERE child = '{child}' AND known_to IS NULL AND valid_from <= DATE '{{0}}'
        AND coalesce(valid_to > DATE '{{0}}', true) ORDER BY ALL
    """
    assert len(rows(query.format("2019-12-31"))) == 2
    assert rows(query.format("2020-01-01")) == [("IS_ULTIMATELY_CONSOLIDATED_BY",)]
    assert rows("SELECT count(*) FROM reference.reporting_exceptions") == [(len(gleif.rows["repex"]),)]


def test_pairs_end_when_they_vanish_and_conflicts_are_shown(gleif: Gleif, place: Path) -> None:
    shutil.copy(gleif.publish_pairs("isin", MOMENTS[0]), place)
    shutil.copy(gleif.publish_pairs("bic", MOMENTS[0]), place)
    take("gleif")
    isin = isin_of(7)
    gleif.pairs["isin"] -= {(isin, lei_of(7))}
    gleif.pairs["isin"] |= {(isin_of(8), lei_of(9)), (isin_of(30), lei_of(9))}
    shutil.copy(gleif.publish_pairs("isin", MOMENTS[3]), place)
    taken = take("gleif")
    # Of the 21 rows, two are new, and one that is gone is counted, too.
    assert taken["isins"].rows_received == 21 + 1
    assert rows("SELECT rows_repeated FROM lake.ingest_ledger WHERE product = 'isins' ORDER BY ALL") == [(19,), (None,)]
    assert rows("SELECT sum(received), sum(kept), sum(duplicates) FROM lake.conservation WHERE product = 'isins'") == [
        (42, 23, 19)
    ]
    assert rows(
        f"SELECT valid_from, valid_to FROM reference.identifiers WHERE value = '{isin}' AND known_to IS NULL"
    ) == [(MOMENTS[0].date(), MOMENTS[3].date())]
    assert rows("SELECT scheme, value, subject, subjects FROM reference.conflicts ORDER BY ALL") == sorted(
        ("isin", isin_of(8), lei_of(number), 2) for number in (8, 9)
    )
    assert {(isin, lei) for isin, lei in rows("SELECT isin, lei FROM reference.lei_isin")} == gleif.pairs["isin"]
    assert {(bic, lei) for bic, lei in rows("SELECT bic, lei FROM reference.lei_bic")} == gleif.pairs["bic"]
    # A conflict is a warning of the publication that brings it.
    assert failed_checks("gleif") == {"no_new_conflicts"}
    gleif.pairs["isin"] |= {(isin_of(31), lei_of(9))}
    shutil.copy(gleif.publish_pairs("isin", MOMENTS[4]), place)
    take("gleif")
    assert failed_checks("gleif") == set()


def test_a_broken_file_fails_with_its_reason_and_the_others_go_on(gleif: Gleif, place: Path) -> None:
    lei2, rr, repex = gleif.publish_full(MOMENTS[0])
    renamed(lei2, "Entity.LegalName", "Entity.Name")
    truncated(rr)
    doubled(repex)
    isins, bics = gleif.publish_pairs("isin", MOMENTS[0]), gleif.publish_pairs("bic", MOMENTS[0])
    as_html(bics)
    for path in (lei2, rr, repex, isins, bics):
        shutil.copy(path, place)
    taken = take("gleif")
    errors = {name: next(iter(result.errors.values()), "") for name, result in taken.items()}
    assert "lacks the column Entity.LegalName" in errors["entities"]
    assert "cut or damaged zip" in errors["relationships"]
    assert "holds 2 files where one CSV is expected" in errors["exceptions"]
    assert "HTML" in errors["bics"]
    assert errors["isins"] == ""
    assert taken["isins"].objects["loaded"] == 1
    for path in gleif.publish_full(MOMENTS[1]):
        shutil.copy(path, place)
    take("gleif")
    assert now() == truth(gleif, MOMENTS[1])
    shutil.copy(gleif.publish_full(MOMENTS[0], ["lei2"])[0], place)
    take("gleif")
    assert now() == truth(gleif, MOMENTS[1])
    assert rows(f"SELECT min(known_from) FROM gleif.entities WHERE lei = '{lei_of(1)}'") == [(MOMENTS[0],)]


def test_a_cycle_of_successors_is_found(gleif: Gleif, place: Path) -> None:
    for one, other in ((6, 7), (7, 8), (8, 6)):
        gleif.put_entity(one, f"Company {one} SE", START, Entity__SuccessorEntity__1__SuccessorLEI=lei_of(other))
    gleif.put_entity(9, "Company 9 SE", START, Entity__SuccessorEntity__1__SuccessorLEI=lei_of(99))
    gleif.tick(MOMENTS[0])
    shutil.copy(gleif.publish_full(MOMENTS[0], ["lei2"])[0], place)
    take("gleif")
    assert failed_checks("gleif") == {"successors_without_cycle", "successors_known"}
